"""Kernels for norms, rotation and gated MLPs that replace those of the model on a GPU."""

from typing import Any

from stages.core.errors import UserError

LIGER = "use_liger_kernel"
OF_MODEL = "model_init_kwargs"  # in which TRL looks for `use_kernels`
HUB = "use_kernels"


def take_kernels(given: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Take the wish for kernels of the hub out of `train.args`, and check both kinds of kernels.

    TRL reads `model_init_kwargs` only if it loads the model itself, and would silently ignore it.

    Args:
        given: `train.args`.

    Returns:
        The other arguments, and whether to use kernels of the hub.

    Raises:
        UserError: The library or a GPU is missing, or `model_init_kwargs` has other keys.
    """
    from transformers.utils import is_kernels_available, is_liger_kernel_available

    wanted = dict(given.get(OF_MODEL) or {})
    hub = bool(wanted.pop(HUB, False))
    if wanted:
        raise UserError(
            f"train.args.{OF_MODEL}.{min(wanted)}: Tuneproof loads the model itself; only {HUB} is "
            "possible here, and the section `model` has the rest"
        )
    if given.get(LIGER):
        command = "pip install -c constraints.txt --group liger"
        _require(f"train.args.{LIGER}", "liger-kernel", command, is_liger_kernel_available())
    if hub:
        key = f"train.args.{OF_MODEL}.{HUB}"
        _require(key, "kernels", "pip install kernels", is_kernels_available())
    return {key: value for key, value in given.items() if key != OF_MODEL}, hub


def use_hub_kernels(model: Any) -> None:
    """Replace layers of a model by kernels of the hub, in place.

    Raises:
        UserError: The library fails, for example because the hub cannot be reached.
    """
    model.train()  # the kernels for training differ from those for inference
    try:
        model.set_use_kernels(True)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"train.args.{OF_MODEL}.{HUB}: {error}") from None


def _require(key: str, package: str, command: str, installed: bool) -> None:
    import torch

    if not installed:
        raise UserError(f"{key}: needs the package {package}: `{command}`")
    if not torch.cuda.is_available():
        raise UserError(
            f"{key}: these kernels need a GPU, and torch sees none; remove the argument"
        )
