"""What an adapter's initial values require from the rest of the configuration."""

from typing import Any

RESIDUAL = ("pissa", "olora")
"""The kinds of `init_lora_weights` that move a part of the base model's weights into the adapter.

The name of a kind begins so, as `pissa_niter_16` does.
"""
_FROM_ROWS = (
    "peft computes its initial values from a pass over training rows, which Tuneproof does not make"
)
REFUSED = {
    "eva": _FROM_ROWS,
    "corda": _FROM_ROWS,
    "lora_ga": _FROM_ROWS,
    "loftq": (
        "it replaces the base model's weights by quantized ones, which no file of an adapter holds"
    ),
}
"""The kinds of `init_lora_weights` that are refused, with the reason."""

UNMERGEABLE = ("alora_invocation_tokens", "layer_replication")
"""Arguments of `peft.LoraConfig` whose adapters cannot be merged into the base model."""


def is_residual(adapter: dict[str, Any] | None) -> bool:
    """Return whether the adapter begins with a part of the base model's weights."""
    return str((adapter or {}).get("init_lora_weights", True)).startswith(RESIDUAL)


def check_adapter(adapter: dict[str, Any], method: str, quantized: bool, beta: Any) -> None:
    """Check that what will be saved can be what was trained.

    Args:
        adapter: The arguments of `peft.LoraConfig`.
        method: The training method.
        quantized: Whether the base model is quantized.
        beta: The argument `beta` of the method, or None.

    Raises:
        ValueError: The combination is not supported. The message says why.
    """
    kind = adapter.get("init_lora_weights", True)
    key = f"adapter.init_lora_weights={kind}"
    for name, reason in REFUSED.items():
        if str(kind).startswith(name):
            raise ValueError(
                f"{key}: {reason}; choose true, gaussian, orthogonal, pissa, olora or mica"
            )
    for name in UNMERGEABLE:
        if adapter.get(name):
            raise ValueError(
                f"adapter.{name}: such an adapter cannot be merged into the base model, and the "
                "merged model is the one that is measured and registered; remove it"
            )
    if not is_residual(adapter):
        return
    moved = f"{key} moves a part of the base model's weights into the adapter"
    if quantized:
        raise ValueError(f"{moved}, which needs weights that are not quantized; choose train=lora")
    if adapter.get("use_dora"):
        raise ValueError(
            f"{moved}, and DoRA scales that part too, so that it cannot be moved back; set "
            "adapter.use_dora=false"
        )
    if method in ("dpo", "kto") or (method == "grpo" and beta):
        raise ValueError(
            f"{moved}, and the reference of method {method}, which is the model without its "
            "adapter, would no longer be the base model; set adapter.init_lora_weights=true"
        )
