"""The memory of training on GPUs, and how many tokens a pass may have there.

The formulas are arithmetic on the dimensions of the model. docs/scaling.md has their sources and
what they leave out. The memory of training on a CPU is in `estimate`.
"""

from stages.core.config.train import TrainConfig
from stages.core.planning.estimate import (
    CPU_TOKENS,
    MOMENT_BYTES_8BIT,
    OPTIMIZER_BYTES,
    RECOMPUTES,
    trained_bytes,
)
from stages.core.planning.model_dimensions import ModelDimensions

FULL = "full"
LEAN = "full, bfloat16, 8-bit AdamW"
METHODS = (FULL, LEAN, "LoRA", "QLoRA")
HALF = 2  # bytes of a bfloat16 number
# of a weight, its gradient and its moments
TRAINED_BYTES = {FULL: OPTIMIZER_BYTES, LEAN: 2 * HALF + MOMENT_BYTES_8BIT}
# 4 bits and the double-quantized constants (Dettmers et al., "QLoRA", 2023, section 3)
NF4_BYTES = (4 + 0.127) / 8
NORM_BYTES = {FULL: 30, LEAN: 24, "LoRA": 24, "QLoRA": 24}  # see activation_bytes
SPARE = 2e9  # assumed, not measured: CUDA context, NCCL buffers, fragmentation
# The tiles of TRL's fused head: 4,096 tokens by 32,768 entries of the vocabulary in float32, twice.
HEAD_BYTES = 2 * 4 * 4096 * 32768
# The logits of both models in float32, their log-probabilities, their divergence and a gradient.
KL_COPIES = 6
USED = 0.85  # of what is left for activations, because nothing here was measured on a GPU yet
UNIT = 256  # of which the chosen number of tokens is a multiple
MOST_TOKENS = 65_536  # more tokens in a pass keep no GPU busier


def state_bytes(dimensions: ModelDimensions, method: str, rank: int) -> float:
    """Return the bytes of weights, gradients and optimizer states on all GPUs together.

    A trained weight takes 16 bytes with AdamW (Rajbhandari et al., "ZeRO", 2020, section 3.1). In
    bfloat16 with an optimizer that keeps its two moments in 8 bits (Dettmers et al., "8-bit
    optimizers via block-wise quantization", 2022) it takes 6 bytes: 2 of weight, 2 of gradient and
    2 of moments. A frozen weight takes 2 bytes, or about half a byte if it is quantized.
    """
    if method in TRAINED_BYTES:
        return TRAINED_BYTES[method] * dimensions.parameters
    body = dimensions.layers * dimensions.layer_parameters
    frozen = (NF4_BYTES if method == "QLoRA" else HALF) * body + HALF * (
        dimensions.parameters - body
    )
    return frozen + OPTIMIZER_BYTES * dimensions.adapter_parameters(rank)


def working_bytes(dimensions: ModelDimensions, method: str, gpus: int) -> float:
    """Return the bytes of working copies of weights on each GPU.

    On one GPU, autocast keeps a bfloat16 copy of every weight that is trained in float32. With
    sharding, the current layer, the next one and the embeddings are gathered in bfloat16. Layers
    that are trained have their gradients beside them.
    """
    body = dimensions.layers * dimensions.layer_parameters
    if gpus == 1:
        return HALF * dimensions.parameters if method == FULL else 0.0
    layer = HALF * dimensions.layer_parameters
    return 2 * layer * (2 if method in TRAINED_BYTES else 1) + HALF * (dimensions.parameters - body)


def activation_bytes(
    dimensions: ModelDimensions, method: str, tokens: int, checkpointing: bool
) -> float:
    """Return the bytes that the forward pass keeps for the backward pass, without the logits.

    The count follows Korthikanti et al. ("Reducing activation recomputation", 2022), for gated
    MLPs, attention that does not store the score matrix, bfloat16 products and float32 norms. A
    layer keeps c h + 4 k + 8 i bytes per token, where h is the hidden size, k the width of keys and
    values, and i the intermediate size. c is 30 for a float32 residual stream and 24 for a bfloat16
    one. A test compares this with what PyTorch saves.

    With gradient checkpointing each layer keeps only its input, and one layer at a time is
    recomputed.
    """
    layer = (
        NORM_BYTES[method] * dimensions.hidden
        + 4 * dimensions.key_value
        + 8 * dimensions.intermediate
    )
    if not checkpointing:
        return tokens * dimensions.layers * layer
    entry = (4 if method == FULL else HALF) * dimensions.hidden
    return tokens * (dimensions.layers * entry + layer)


def get_method(train: TrainConfig) -> str:
    """Return the one of `METHODS` whose activations and working copies a training has."""
    if train.adapter is not None:
        return "LoRA" if train.quantization is None else "QLoRA"
    return LEAN if train.trained_dtype == "bfloat16" else FULL


def choose_tokens(
    train: TrainConfig, dimensions: ModelDimensions | None, free: float | None, gpus: int
) -> tuple[int, str]:
    """Choose the tokens of a pass for `train.micro_batch_tokens=auto`.

    Args:
        train: The section of the training.
        dimensions: The dimensions of the model, or None if they are unknown.
        free: The bytes of this GPU that training may use, weights included. None on a CPU.
        gpus: The number of GPUs that share weights and optimizer states.

    Returns:
        The number, which is at least that of a CPU, and a phrase that explains it.
    """
    if free is None:
        return CPU_TOKENS, "on a CPU"
    if dimensions is None:
        return CPU_TOKENS, "as on a CPU, because the model's configuration does not state its size"
    if dimensions.mixture:
        return (
            CPU_TOKENS,
            "as on a CPU, because the memory of a mixture of experts is not estimated",
        )
    if train.attention == "eager":
        return CPU_TOKENS, "as on a CPU, because eager attention keeps the scores of all tokens"
    left = free - count_fixed_bytes(train, dimensions, gpus)
    recomputes = any(train.args.get(key) for key in RECOMPUTES)
    kept = activation_bytes(dimensions, get_method(train), 1, recomputes)
    fitting = USED * left / (kept + logits_bytes(train, dimensions))
    tokens = max(CPU_TOKENS, min(MOST_TOKENS, int(fitting // UNIT * UNIT)))
    return tokens, f"for {free / 1e9:.0f} GB of GPU memory, of which {left / 1e9:.0f} GB are left"


def logits_bytes(train: TrainConfig, dimensions: ModelDimensions) -> float:
    """Return the bytes of a target's logits where the base model's are compared with the model's.

    Replay rows with `train.replay.loss=kl` have them whole. Other losses come from TRL's fused
    head. A pass may consist of such targets alone.
    """
    if not (train.replay.fraction and train.replay.asks_base):
        return 0.0
    return KL_COPIES * 4 * dimensions.vocabulary


def count_fixed_bytes(train: TrainConfig, dimensions: ModelDimensions, gpus: int) -> float:
    """Return the bytes on each GPU that do not depend on the tokens of a pass."""
    method = get_method(train)
    states = (
        trained_bytes(train) * dimensions.parameters
        if train.adapter is None
        else state_bytes(dimensions, method, train.adapter.get("r", 8))
    )
    return states / gpus + working_bytes(dimensions, method, gpus) + HEAD_BYTES + SPARE
