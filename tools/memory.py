"""Estimate the memory of training by model and method, and how many GPUs it needs with FSDP.

    python -m tools.memory                            # the tables of docs/scaling.md
    python -m tools.memory --tokens 8192 --rank 64    # longer micro-batches, larger adapters
    python -m tools.memory --model path/to/model      # a model folder or a model id of the hub

The estimate is arithmetic on the dimensions of the model. docs/scaling.md has the formulas, their
sources and what they leave out.
"""

import math

from stages.core.config.model import HubSource, ModelConfig
from stages.core.entrypoint import make_parser, tool_main
from stages.core.models.base_models import ModelFiles
from stages.core.planning.gpu_memory import (
    HALF,
    METHODS,
    SPARE,
    activation_bytes,
    state_bytes,
    working_bytes,
)
from stages.core.planning.model_dimensions import ModelDimensions, get_model_dimensions

MODELS = {  # from each model's config.json
    "Qwen2.5-0.5B": ModelDimensions(896, 4864, 24, 151936, 128, tied=True),
    "Qwen2.5-1.5B": ModelDimensions(1536, 8960, 28, 151936, 256, tied=True),
    "Qwen2.5-7B": ModelDimensions(3584, 18944, 28, 152064, 512, tied=False),
    "Llama-3.1-8B": ModelDimensions(4096, 14336, 32, 128256, 1024, tied=False),
    "Qwen2.5-14B": ModelDimensions(5120, 13824, 48, 152064, 1024, tied=False),
    "Qwen2.5-32B": ModelDimensions(5120, 27648, 64, 152064, 1024, tied=False),
    "Llama-3.1-70B": ModelDimensions(8192, 28672, 80, 128256, 1024, tied=False),
}
GPUS = {"24 GB": 24e9, "80 GB": 80e9, "141 GB": 141e9}
MOST = 64  # GPUs that a table counts up to


def gpu_bytes(dimensions: ModelDimensions, method: str, gpus: int, tokens: int, rank: int) -> float:
    """Return the bytes that training takes on each of several GPUs, with gradient checkpointing."""
    states = state_bytes(dimensions, method, rank) / gpus + working_bytes(dimensions, method, gpus)
    return states + activation_bytes(dimensions, method, tokens, checkpointing=True) + SPARE


def gpus_needed(
    dimensions: ModelDimensions, method: str, capacity: float, tokens: int, rank: int
) -> int | None:
    """Return the smallest number of GPUs of this capacity that fits, or None above `MOST`."""
    fits = (
        n for n in range(1, MOST + 1) if gpu_bytes(dimensions, method, n, tokens, rank) <= capacity
    )
    return next(fits, None)


def cache_bytes(dimensions: ModelDimensions) -> int:
    """Return the bytes of the KV cache per token."""
    return 2 * HALF * dimensions.layers * dimensions.key_value


def tables(models: dict[str, ModelDimensions], tokens: int, rank: int) -> str:
    """Format two Markdown tables.

    The first has memory and GPUs by model and method. The second has what DPO and GRPO add.
    """
    capacities = " | ".join(f"{name} GPUs" for name in GPUS)
    lines = [
        f"| model | method | states, GB | activations of {tokens:,} tokens, GB "
        f"| checkpointed, GB | {capacities} |",
        "|---|---|---:|---:|---:|" + "---:|" * len(GPUS),
    ]
    for name, dimensions in models.items():
        for method in METHODS:
            numbers = [
                state_bytes(dimensions, method, rank),
                activation_bytes(dimensions, method, tokens, checkpointing=False),
                activation_bytes(dimensions, method, tokens, checkpointing=True),
            ]
            counts = (
                gpus_needed(dimensions, method, capacity, tokens, rank)
                for capacity in GPUS.values()
            )
            cells = [
                *(f"{_round(n / 1e9)}" for n in numbers),
                *(str(n or f"> {MOST}") for n in counts),
            ]
            lines.append(f"| {name} | {method} | {' | '.join(cells)} |")
    lines += [
        "",
        f"| model | weights, billion | adapter of rank {rank}, million "
        "| DPO reference model, full, GB | KV cache per token, kB "
        "| KV cache of 8 answers of 1,024 tokens, GB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, dimensions in models.items():
        cache = cache_bytes(dimensions)
        cells = [
            f"{dimensions.parameters / 1e9:.2f}",
            f"{dimensions.adapter_parameters(rank) / 1e6:.1f}",
        ]
        cells += [
            _round(4 * dimensions.parameters / 1e9),
            f"{cache / 1e3:.0f}",
            _round(8 * 1024 * cache / 1e9),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _round(value: float) -> str:
    decimals = max(0, 1 - math.floor(math.log10(value)))
    return f"{value:,.0f}" if value >= 100 else f"{value:.{decimals}f}"  # noqa: PLR2004


@tool_main("memory")
def main() -> None:
    """Print the tables."""
    parser = make_parser("tools.memory", __doc__)
    parser.add_argument(
        "--tokens",
        type=int,
        default=2048,
        help="tokens of a micro-batch on each GPU, padding included",
    )
    parser.add_argument("--rank", type=int, default=16, help="rank of the adapters")
    parser.add_argument(
        "--model", help="a model folder or a model id of the hub, instead of the usual sizes"
    )
    given = parser.parse_args()
    try:
        models = {given.model: read(given.model)} if given.model else MODELS
    except (OSError, ValueError) as error:
        parser.error(f"--model {given.model}: {error}")
    print(tables(models, given.tokens, given.rank))  # noqa: T201


def read(model: str) -> ModelDimensions:
    """Read the dimensions of a model from its configuration.

    Raises:
        OSError: The model does not exist.
        ValueError: The model is not a decoder with gated MLPs.
    """
    source = HubSource(kind="hub", id=model, revision=None, trust_remote_code=False)
    config = ModelConfig(
        name=model,
        source=source,
        dtype="auto",
        max_length=2048,
        max_batch_tokens=2048,
        chat_template=None,
        chat_template_kwargs={},
        dvc_dependency="LICENSE",
    )
    dimensions = get_model_dimensions(config, ModelFiles(model, None, None))
    if dimensions is None or dimensions.mixture:
        raise ValueError("its config.json does not describe a decoder with gated MLPs")
    return dimensions


if __name__ == "__main__":
    main()
