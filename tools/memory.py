"""How much memory training takes, by model and method, and on how many GPUs it fits when FSDP shards it.

    python -m tools.memory                                   # the tables of docs/scaling.md
    python -m tools.memory --tokens 8192 --rank 64           # longer micro-batches, larger adapters
    python -m tools.memory --model path/to/model             # a folder with a model, or an id of the hub

Arithmetic alone, from the shape of the model: docs/scaling.md has the formulas, their sources and what they leave out.
"""

import argparse
import math

from stages.core.config.model import HubSource, ModelConfig
from stages.core.models.base_models import BaseModel
from stages.core.planning.estimate import OPTIMIZER_BYTES
from stages.core.planning.model_dimensions import Shape, get_shape

SHAPES = {  # of the models' own config.json
    "Qwen2.5-0.5B": Shape(896, 4864, 24, 151936, 128, tied=True),
    "Qwen2.5-1.5B": Shape(1536, 8960, 28, 151936, 256, tied=True),
    "Qwen2.5-7B": Shape(3584, 18944, 28, 152064, 512, tied=False),
    "Llama-3.1-8B": Shape(4096, 14336, 32, 128256, 1024, tied=False),
    "Qwen2.5-14B": Shape(5120, 13824, 48, 152064, 1024, tied=False),
    "Qwen2.5-32B": Shape(5120, 27648, 64, 152064, 1024, tied=False),
    "Llama-3.1-70B": Shape(8192, 28672, 80, 128256, 1024, tied=False),
}
METHODS = ("full", "LoRA", "QLoRA")
GPUS = {"24 GB": 24e9, "80 GB": 80e9, "141 GB": 141e9}
MOST = 64  # GPUs; more is another kind of project
HALF = 2  # bytes of a bfloat16 number
NF4_BYTES = (
    4 + 0.127
) / 8  # 4 bits and the twice quantized constants (Dettmers et al., "QLoRA", 2023, section 3)
NORM_BYTES = {"full": 30, "LoRA": 24, "QLoRA": 24}  # see activation_bytes
SPARE = 2e9  # CUDA's context, buffers of NCCL, fragmentation: an allowance, not measured


def state_bytes(shape: Shape, method: str, rank: int) -> float:
    """Weights, gradients and optimizer states, on all GPUs together. AdamW takes 16 bytes for each weight that is
    trained (Rajbhandari et al., "ZeRO", 2020, section 3.1); a frozen one takes 2, quantized about half a byte."""
    if method == "full":
        return OPTIMIZER_BYTES * shape.parameters
    body = shape.layers * shape.layer_parameters
    frozen = (NF4_BYTES if method == "QLoRA" else HALF) * body + HALF * (shape.parameters - body)
    return frozen + OPTIMIZER_BYTES * shape.adapter_parameters(rank)


def working_bytes(shape: Shape, method: str, gpus: int) -> float:
    """Copies of weights at work, on each GPU.

    Alone, a model whose weights are trained in float32 has a bfloat16 copy of each for autocast. Sharded, a layer and
    the next one are whole in bfloat16, with their gradients where they are trained, and so are the embeddings.
    """
    body = shape.layers * shape.layer_parameters
    if gpus == 1:
        return HALF * shape.parameters if method == "full" else 0.0
    layer = HALF * shape.layer_parameters
    return 2 * layer * (2 if method == "full" else 1) + HALF * (shape.parameters - body)


def activation_bytes(shape: Shape, method: str, tokens: int, checkpointing: bool) -> float:
    """What the forward pass of so many tokens keeps for the backward pass, logits left out.

    Counted as Korthikanti et al. ("Reducing activation recomputation", 2022) count, for gated MLPs, attention that
    keeps no matrix of scores, bfloat16 products and float32 norms: c h + 4 k + 8 i bytes a token and layer, where h is
    the width, k that of keys and values, i that of the MLP; c is 30 for a float32 residual stream, 24 for a bfloat16
    one. A test compares this with what PyTorch saves. With gradient checkpointing each layer keeps its input alone, and
    one layer at a time is computed again.
    """
    layer = NORM_BYTES[method] * shape.hidden + 4 * shape.key_value + 8 * shape.intermediate
    if not checkpointing:
        return tokens * shape.layers * layer
    entry = (4 if method == "full" else HALF) * shape.hidden
    return tokens * (shape.layers * entry + layer)


def gpu_bytes(shape: Shape, method: str, gpus: int, tokens: int, rank: int) -> float:
    """All of it on each of several GPUs, with gradient checkpointing."""
    states = state_bytes(shape, method, rank) / gpus + working_bytes(shape, method, gpus)
    return states + activation_bytes(shape, method, tokens, checkpointing=True) + SPARE


def gpus_needed(shape: Shape, method: str, capacity: float, tokens: int, rank: int) -> int | None:
    """The least number of GPUs of this capacity, or None where `MOST` are too few."""
    fits = (n for n in range(1, MOST + 1) if gpu_bytes(shape, method, n, tokens, rank) <= capacity)
    return next(fits, None)


def cache_bytes(shape: Shape) -> int:
    """Keys and values of one token that is generated or was read."""
    return 2 * HALF * shape.layers * shape.key_value


def tables(shapes: dict[str, Shape], tokens: int, rank: int) -> str:
    """Two tables in Markdown: memory and GPUs by model and method; what DPO and GRPO add."""
    capacities = " | ".join(f"{name} GPUs" for name in GPUS)
    lines = [
        f"| model | method | states, GB | activations of {tokens:,} tokens, GB | checkpointed, GB | {capacities} |",
        "|---|---|---:|---:|---:|" + "---:|" * len(GPUS),
    ]
    for name, shape in shapes.items():
        for method in METHODS:
            numbers = [
                state_bytes(shape, method, rank),
                activation_bytes(shape, method, tokens, checkpointing=False),
                activation_bytes(shape, method, tokens, checkpointing=True),
            ]
            counts = (
                gpus_needed(shape, method, capacity, tokens, rank) for capacity in GPUS.values()
            )
            cells = [
                *(f"{_round(n / 1e9)}" for n in numbers),
                *(str(n or f"> {MOST}") for n in counts),
            ]
            lines.append(f"| {name} | {method} | {' | '.join(cells)} |")
    lines += [
        "",
        f"| model | weights, billion | adapter of rank {rank}, million | reference of DPO, full, GB "
        "| keys and values of a token, kB | of 8 answers of 1,024 tokens, GB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, shape in shapes.items():
        cache = cache_bytes(shape)
        cells = [f"{shape.parameters / 1e9:.2f}", f"{shape.adapter_parameters(rank) / 1e6:.1f}"]
        cells += [
            _round(4 * shape.parameters / 1e9),
            f"{cache / 1e3:.0f}",
            _round(8 * 1024 * cache / 1e9),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _round(value: float) -> str:
    decimals = max(0, 1 - math.floor(math.log10(value)))
    return f"{value:,.0f}" if value >= 100 else f"{value:.{decimals}f}"  # noqa: PLR2004


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tokens", type=int, default=2048, help="padded tokens of a micro-batch on each GPU"
    )
    parser.add_argument("--rank", type=int, default=16, help="of the adapters")
    parser.add_argument(
        "--model", help="a folder or an id of the hub, in the place of the usual sizes"
    )
    given = parser.parse_args()
    try:
        shapes = {given.model: read(given.model)} if given.model else SHAPES
    except (OSError, ValueError) as error:
        parser.error(f"--model {given.model}: {error}")
    print(tables(shapes, given.tokens, given.rank))  # noqa: T201


def read(model: str) -> Shape:
    """The shape of a model.

    Raises:
        OSError: there is no such model.
        ValueError: its configuration does not tell its shape.
    """
    source = HubSource(kind="hub", id=model, revision=None, trust_remote_code=False)
    config = ModelConfig(
        name=model, source=source, dtype="auto", max_length=2048, batch_tokens=2048
    )
    shape = get_shape(config, BaseModel(model, None, None))
    if shape is None:
        raise ValueError("its config.json is not that of a decoder with gated MLPs")
    return shape


if __name__ == "__main__":
    main()
