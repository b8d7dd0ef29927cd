"""Measure how fast this machine computes right now, by a loop that no change of Tuneproof touches.

    python -m benchmarks.calibration

A shared machine is twice as fast in one hour as in another. Two times of two commits or two
machines can be compared after each is multiplied by the rate of this loop that was measured beside
it.
"""

import time

TOKENS = 512
WIDTH = 576
LAYERS = 12
STEPS = 20
WARM_UP = 3


def main() -> None:
    """Print the tokens per second of the loop."""
    print(f"{measure():.0f} tokens/s of the fixed loop")  # noqa: T201


def measure() -> float:
    """Return the tokens per second of forward and backward passes through plain layers in bfloat16."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = nn.ModuleList(
        nn.Sequential(nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 1536), nn.SiLU(), nn.Linear(1536, WIDTH))
        for _ in range(LAYERS)
    ).bfloat16()
    tokens = torch.randn(TOKENS, WIDTH, dtype=torch.bfloat16)
    started = 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            started = time.perf_counter()
        states = tokens
        for layer in layers:
            states = states + layer(states)
        states.float().square().mean().backward()
    return TOKENS * STEPS / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
