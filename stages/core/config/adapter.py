"""What an adapter's initial values require from the rest of the configuration."""

from collections.abc import Mapping
from typing import Any

RESIDUAL = ("pissa", "olora", "corda", "lora_ga")
"""The kinds of `init_lora_weights` that move a part of the base model's weights into the adapter.

The name of a kind begins so, as `pissa_niter_16` does.
"""
REFUSED = {
    "loftq": (
        "it replaces the base model's weights by quantized ones, which no file of an adapter holds"
    ),
}
"""The kinds of `init_lora_weights` that are refused, with the reason."""
FROM_ROWS = ("eva", "corda", "lora_ga")
"""The kinds of `init_lora_weights` that are computed from training rows."""
NOT_FROM_ROWS = ("target_parameters", "trainable_token_indices")
"""Arguments of `peft.LoraConfig` whose weights peft cannot compute from rows."""

FILES = ("cache_file", "covariance_file")
"""Arguments of `corda_config` that let peft read what it computed from other rows."""

UNMERGEABLE = ("alora_invocation_tokens", "layer_replication")
"""Arguments of `peft.LoraConfig` whose adapters cannot be merged into the base model."""


def is_residual(adapter: dict[str, Any] | None) -> bool:
    """Return whether the adapter begins with a part of the base model's weights."""
    return str((adapter or {}).get("init_lora_weights", True)).startswith(RESIDUAL)


def is_eva(adapter: dict[str, Any] | None) -> bool:
    """Return whether the adapter begins with the directions of the inputs of its layers."""
    return (adapter or {}).get("init_lora_weights") == "eva"


def needs_whole_weights(adapter: dict[str, Any] | None) -> bool:
    """Return whether the adapter's initial values cannot be computed from a part of the weights."""
    return is_residual(adapter) or is_eva(adapter)


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
                f"{key}: {reason}; choose true, gaussian, orthogonal, pissa, olora, mica, eva, corda or lora_ga"
            )
    for name in UNMERGEABLE:
        if adapter.get(name):
            raise ValueError(
                f"adapter.{name}: such an adapter cannot be merged into the base model, and the "
                "merged model is the one that is measured and registered; remove it"
            )
    _check_rows(adapter, method, key)
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


def _check_rows(adapter: dict[str, Any], method: str, key: str) -> None:
    """Check that the initial values can be computed from the rows of this training alone.

    Raises:
        ValueError: They cannot. The message says why.
    """
    kind = adapter.get("init_lora_weights")
    for name in NOT_FROM_ROWS:
        if kind in FROM_ROWS and adapter.get(name):
            raise ValueError(
                f"{key} is computed from linear layers, and adapter.{name} adapts "
                "weights that are in none; remove it, or set adapter.init_lora_weights=true"
            )
    if kind == "lora_ga" and method != "sft":
        raise ValueError(
            f"{key} begins with the gradient of the answers of method sft, and method {method} "
            "learns something else; choose adapter.init_lora_weights=eva, or true"
        )
    for name in FILES:
        if (adapter.get("corda_config") or {}).get(name):
            raise ValueError(
                f"adapter.corda_config.{name}: what such a file holds may come from other rows or "
                "weights, and no lineage would say so; remove it"
            )


def check_start(adapter: dict[str, Any] | None, args: Mapping[str, Any]) -> None:
    """Check that training can start from the weights of another adapter.

    Args:
        adapter: The arguments of `peft.LoraConfig`, or None to train every weight.
        args: The arguments of the method.

    Raises:
        ValueError: It cannot. The message begins with the key.
    """
    if adapter is None:
        raise ValueError(
            "init_adapter.source: without an adapter every weight is trained; "
            "choose train=lora, or set init_adapter.source to null"
        )
    if isinstance(adapter.get("init_lora_weights"), str):
        raise ValueError(
            "adapter.init_lora_weights: the weights come from init_adapter.source; remove it"
        )
    if args.get("precompute_ref_log_probs"):
        raise ValueError(
            "args.precompute_ref_log_probs: the reference is the adapter of "
            "init_adapter.source, which is loaded later; remove it"
        )
