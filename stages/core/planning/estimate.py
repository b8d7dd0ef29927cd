"""How long training will take and how much memory, from the shape of the model and the speed of this machine.

No torch: `prepare` shows it before anything heavy is loaded, `train` repeats it and reports how far it was off.
"""

import math
import shutil
import time
from functools import cache
from pathlib import Path
from typing import Any

from stages.core.config.train import TrainConfig
from stages.core.planning.auto import count_replay_rows, number, resolve, steps_per_epoch
from stages.core.planning.model_dimensions import Shape

# Measured with the default model and data on two cores (626 tokens/s without padding; with it 3.0 GB, 2.7 GB with
# micro-batches of 512 tokens, 3.8 GB with 1,024): the share of the speed of a product of matrices which it reaches, ...
EFFICIENCY = 0.58
BFLOAT16_GAIN = 2.0  # ... what bfloat16 gains where the processor multiplies it, ...
PROCESS_BYTES = 1.1e9  # ... what the process takes before its first step, weights apart, ...
ACTIVATION_BYTES = (
    10.0  # ... and what a token keeps for each input and output of a layer's linear maps.
)
RECOMPUTES = (
    "gradient_checkpointing",
    "activation_checkpointing",
)  # transformers' two names for one thing
# A replay row of the default model (`stages/train/replay_writer.py`): its tokens, and those of the answer.
REPLAY_TOKENS = 125
REPLAY_TRAINED = 61
OPTIMIZER_BYTES = (
    16  # AdamW: weight, gradient and two moments in float32 (Rajbhandari et al., "ZeRO", 2020)
)


def estimate(
    train: TrainConfig,
    shape: Shape | None,
    rows: int,
    tokens: int,
    trained: int,
    limit: int,
    dtype: str,
) -> dict[str, Any]:
    """Steps and tokens of training, and where they can be known before, seconds and peak memory.

    Args:
        train: method and arguments; `auto` among them is resolved.
        shape: the model's.
        rows: training rows of the task; replay rows are added here. Prose is cut into pieces, which may be more than
            the rows; the steps are then more too.
        tokens: of all training rows together. `prepare` counts one answer a row, pairs have two.
        trained: those of them whose loss counts.
        limit: tokens a row may have.
        dtype: `auto`, `bfloat16` or `float32`.

    Raises:
        UserError: an argument to count with is no number.
    """
    replayed = count_replay_rows(train, rows)  # their tokens are not known before they are written
    rows = rows + replayed
    tokens = tokens + replayed * REPLAY_TOKENS
    trained = trained + replayed * REPLAY_TRAINED
    args, reasons = resolve(train, shape.hidden if shape else None, rows)
    steps, seen = _get_steps(train, args, rows)
    known = {
        "tokens_per_epoch": tokens,
        "steps": steps,
        "tokens": round(tokens * seen),
        "auto": reasons,
    }
    counted = (
        f"{tokens:,} tokens an epoch, {steps:,} steps"
        if train.method == "sft"
        else f"{steps:,} steps"
    )
    also = "".join(f" {key}={args[key]}: {reason}." for key, reason in reasons.items())
    if shape is None or _unknown(train):
        why = _unknown(train) or "the model's configuration does not tell its size"
        sentence = f"{counted}; time and memory are not estimated: {why}.{also}"
        return {**known, "sentence": sentence, "how": "train reports its rate while it runs."}
    fast = dtype == "bfloat16" or (dtype == "auto" and has_bfloat16())
    speed = matrix_product_speed() * (BFLOAT16_GAIN if fast else 1)
    seconds = seen * operations(train, shape, tokens, trained) / (speed * EFFICIENCY)
    peak = memory(train, shape, min(limit, train.micro_batch_tokens), 2 if fast else 4)
    sentence = (
        f"Before you train: {counted}, {known['tokens']:,} tokens in all, "
        f"about {seconds / 60:,.1f} minutes and {peak / 1e9:.1f} GB on this machine.{also}"
    )
    how = (
        f"Estimated from the operations of the model's linear maps at {EFFICIENCY:.0%} of the speed at which this "
        f"machine multiplies matrices now, {speed / 1e9:,.0f} GFLOP/s{' (bfloat16)' if fast else ''}, without "
        f"evaluation; train reports how far it was off."
    )
    return {
        **known,
        "seconds": seconds,
        "peak_memory_bytes": peak,
        "sentence": sentence,
        "how": how,
    }


def count_forward_tokens(train: TrainConfig, shape: Shape | None, rows: int, tokens: int) -> int:
    """Tokens of forward passes that are as much work as training: 3 for each token that it reads, 2 under an adapter.

    A backward pass takes twice a forward pass, or once where the weights are frozen (see `operations`). Evaluation is
    left out, and for the methods other than `sft` it is a lower bound: they read several answers a row.

    Args:
        train: method and arguments.
        shape: the model's.
        rows: training rows.
        tokens: of all training rows together.
    """
    args, _ = resolve(train, shape.hidden if shape else None, rows)
    passes = 3 if train.adapter is None else 2
    return round(passes * tokens * _get_steps(train, args, rows)[1])


def _get_steps(train: TrainConfig, args: dict[str, Any], rows: int) -> tuple[int, float]:
    """Optimizer steps, and epochs."""
    a_epoch = steps_per_epoch(train, args, rows)
    most = int(number(args, "max_steps", -1))
    steps = most if most > 0 else math.ceil(a_epoch * number(args, "num_train_epochs", 3))
    return steps, steps / a_epoch


def _unknown(train: TrainConfig) -> str | None:
    """Why time and memory cannot be estimated: the constants above were measured with `sft` in one process on a CPU."""
    if train.method != "sft":
        return f"not for method {train.method}"
    if train.launcher.kind != "single":
        return f"training will run in processes of launcher.kind={train.launcher.kind}"
    if train.quantization is not None or any(train.args.get(key) for key in RECOMPUTES):
        return "not with quantization or gradient checkpointing"
    return "training will run on the GPU" if shutil.which("nvidia-smi") else None


def operations(train: TrainConfig, shape: Shape, tokens: int, trained: int) -> float:
    """Floating-point operations of one epoch: two a weight and token forward; backward two for the activations and two
    for the weights that are trained (Kaplan et al., "Scaling laws for neural language models", 2020)."""
    body = shape.layers * shape.layer_parameters
    head = shape.vocabulary * shape.hidden
    if train.adapter is None:
        return 6.0 * body * tokens + 6.0 * head * trained
    adapters = shape.adapter_parameters(train.adapter.get("r", 8))
    return (4.0 * body + 6.0 * adapters) * tokens + 4.0 * head * trained


def memory(train: TrainConfig, shape: Shape, tokens: int, weight_bytes: int) -> float:
    """Bytes at the peak: the process, the weights, the optimizer, and the activations of one micro-batch."""
    h = shape.hidden
    kv = shape.key_value
    i = shape.intermediate
    activations = ACTIVATION_BYTES * shape.layers * (4 * h + 2 * kv + 3 * i) * tokens
    if train.adapter is None:
        return PROCESS_BYTES + OPTIMIZER_BYTES * shape.parameters + activations
    adapters = OPTIMIZER_BYTES * shape.adapter_parameters(train.adapter.get("r", 8))
    return PROCESS_BYTES + weight_bytes * shape.parameters + adapters + activations


@cache
def matrix_product_speed(size: int = 1024) -> float:
    """Floating-point operations a second of this machine's product of float32 matrices: the best of eight.

    It is measured once a process, because it takes a noticeable part of a second.
    """
    import numpy as np

    a = np.random.default_rng(0).random((size, size), np.float32)
    best = math.inf
    for _ in range(8):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def has_bfloat16() -> bool:
    """Whether the processor says that it multiplies bfloat16 itself."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text(errors="replace") if info.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
