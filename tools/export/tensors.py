"""Compare the weights of an export with the registered ones, bit by bit."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stages.core.errors import UserError

if TYPE_CHECKING:
    import torch

    States = Mapping[str, torch.Tensor]
    Rounding = Callable[[torch.Tensor], torch.Tensor | None]

SHOWN = 3  # names of tensors in a message
BLOCK = 32  # weights of a row that share a scale in q8_0
LOGARITHM = ".A_log"
"""The end of the names of weights that a GGUF file has as `-exp(x)`, such as those of Mamba."""
LAST_DIGITS = 2.0**-22
"""How far `log(exp(x))` may be from x in float32, absolutely and relative to x. The exponential is
rounded by at most one unit of its last digit (2 ** -23), and so is the logarithm."""


def compare_exactly(registered: "States", exported: "States", what: str) -> int:
    """Check that all weights of an export are the registered ones, in value and in type.

    Args:
        registered: The weights of the registered model by name.
        exported: Those of the export.
        what: The export, for the message.

    Returns:
        The number of tensors.

    Raises:
        UserError: A tensor differs or is missing, or there is another one.
    """
    differing = sorted(
        name
        for name in registered.keys() | exported.keys()
        if name not in registered
        or name not in exported
        or not _same_bits(registered[name], exported[name])
    )
    _refuse(differing, len(registered), what)
    return len(registered)


def get_language_weights(model: Any) -> "States":
    """Return the weights of a model's language model, by the names that it has alone.

    A GGUF file has no other part of a model that reads images or sound too.
    """
    weights = model.state_dict()
    if model.config.get_text_config() is model.config:
        return weights
    head = {name: tensor for name, tensor in weights.items() if name.startswith("lm_head.")}
    decoder = model.get_decoder().state_dict()
    return head | {f"{model.base_model_prefix}.{name}": decoder[name] for name in decoder}


def compare_rounded(
    registered: "States", exported: "States", quantization: str, what: str
) -> Counter[str]:
    """Check that each weight of a GGUF file is the registered one, or that rounded to the file's type.

    Args:
        registered: The weights of the registered model by name.
        exported: The weights that transformers reads from the file, in float32. Those that a file
            has as `-exp(x)` may differ in the last digits.
        quantization: The type of the file. In a file of a low type some tensors have a higher one.
        what: The export, for the message.

    Returns:
        How many tensors are `unchanged`, and how many were rounded to which type.

    Raises:
        UserError: A tensor differs from all of these, or is missing.
    """
    allowed = _get_roundings(quantization)
    found: Counter[str] = Counter()
    differing = []
    for name, tensor in registered.items():
        exact = tensor.float()
        how = None
        if name in exported:
            fits = (kind for kind, turn in allowed.items() if _fits(turn(exact), exported[name]))
            how = next(fits, None)
            if how is None and _is_logarithm(name, exact, exported[name]):
                how = "unchanged but for a logarithm"
        if how is None:
            differing.append(name)
        else:
            found[how] += 1
    _refuse(sorted(differing), len(registered), what)
    return found


def _get_roundings(quantization: str) -> "dict[str, Rounding]":
    """Return the functions that make of a float32 tensor what is read from a file of a type."""
    import torch

    always: dict[str, Rounding] = {
        "unchanged": lambda tensor: tensor,
        # Files of Gemma have 1 + x for the norms, and reading subtracts 1.
        "unchanged but for adding 1": lambda x: (x + 1) - 1 if x.dim() == 1 else None,
    }
    rounded: dict[str, Rounding] = {
        "bf16": lambda tensor: tensor.bfloat16().float(),
        "f16": lambda tensor: tensor.to(torch.float16).float(),
        "q8_0": _round_to_q8_0,
    }
    kinds = {"f32": [], "bf16": ["bf16"], "f16": ["f16"], "q8_0": ["f16", "q8_0"]}[quantization]
    return always | {kind: rounded[kind] for kind in kinds}


def _round_to_q8_0(tensor: "torch.Tensor") -> "torch.Tensor | None":
    """Quantize with the reference of llama.cpp in Python, and compute the weights again."""
    import torch
    from gguf import GGMLQuantizationType, dequantize, quantize

    if tensor.shape[-1] % BLOCK:
        return None
    kind = GGMLQuantizationType.Q8_0
    return torch.from_numpy(dequantize(quantize(tensor.numpy(), kind), kind)).view(tensor.shape)


def _fits(expected: "torch.Tensor | None", found: "torch.Tensor") -> bool:
    return expected is not None and _same_bits(expected, found.float())


def _is_logarithm(name: str, expected: "torch.Tensor", found: "torch.Tensor") -> bool:
    import torch

    same = name.endswith(LOGARITHM) and expected.shape == found.shape
    return same and torch.allclose(found.float(), expected, rtol=LAST_DIGITS, atol=LAST_DIGITS)


def _same_bits(a: "torch.Tensor", b: "torch.Tensor") -> bool:
    import torch

    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(
        a.detach().cpu().contiguous().reshape(-1).view(torch.uint8),
        b.detach().cpu().contiguous().reshape(-1).view(torch.uint8),
    )


def _refuse(differing: list[str], count: int, what: str) -> None:
    if differing:
        names = ", ".join(differing[:SHOWN])
        raise UserError(
            f"{what} does not have the registered weights: {len(differing)} of {count} tensors "
            f"differ, such as {names}. Nothing was exported"
        )
