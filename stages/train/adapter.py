"""Build the adapter, and save it so that the base model plus the adapter is what was trained."""

import copy
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.config.adapter import is_residual
from stages.core.config.train import TrainConfig
from stages.core.errors import UserError
from stages.core.storage.files import read_json, write_json
from stages.train.unread_weights import find_unread

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig

log = logging.getLogger(__name__)
WEIGHTS = "adapter_model.safetensors"
SETTINGS = "adapter_config.json"
EXPERT_DIMENSIONS = 3  # The weights of all experts of a layer are one parameter of this shape.
# peft's adapters of parameters know no other initial values than these.
PLAIN_KINDS = (True, False, "gaussian")


def get_adapter(train: TrainConfig, task_type: str) -> "LoraConfig | None":
    """Build peft's configuration from `train.adapter`, or return None to train every weight.

    Raises:
        UserError: If peft does not know an argument or rejects its value.
    """
    if train.adapter is None:
        return None
    from peft import LoraConfig

    # peft has defaults for the sections of all kinds except this one.
    section: dict[str, Any] = {}
    if train.adapter.get("init_lora_weights") == "lora_ga":
        section = {"lora_ga_config": {}}
    try:
        return LoraConfig(task_type=task_type, **(section | train.adapter))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"train.adapter: peft.LoraConfig rejects these arguments: {error}"
        ) from None


def target_experts(adapter: "LoraConfig", given: dict[str, Any], model: Any) -> None:
    """Let `all-linear` include the experts of a mixture of experts.

    transformers keeps the weights of all experts of a layer in one parameter, and not in linear
    layers, where peft looks for the targets of `all-linear`. For some models peft knows the names
    of these parameters itself.

    Args:
        adapter: The configuration, whose `target_parameters` may be set.
        given: `train.adapter`. Nothing is changed if it names `target_parameters` itself.
        model: The model without an adapter.

    Raises:
        UserError: The experts cannot have adapters with these settings.
    """
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    if adapter.target_modules != "all-linear" or "target_parameters" in given:
        return
    experts = find_experts(model)
    if not experts:
        return
    share = 100 * sum(experts.values()) / model.num_parameters()
    obstacles = [key for key in ("lora_dropout", "use_dora", "lora_bias") if getattr(adapter, key)]
    if adapter.init_lora_weights not in PLAIN_KINDS:
        obstacles.append("init_lora_weights")
    if obstacles:
        raise UserError(
            f"train.adapter.target_modules=all-linear includes the experts, {share:.0f}% of the "
            f"weights, and peft has no adapters for them with {' and '.join(obstacles)}. Remove "
            "that setting, or name the layers to train, such as "
            "train.adapter.target_modules=[q_proj,k_proj,v_proj,o_proj]."
        )
    probe = copy.deepcopy(adapter)  # it is changed in place
    convert_peft_config_for_transformers(probe, model, None)
    if not probe.target_parameters:
        adapter.target_parameters = sorted({_get_end(name) for name in experts})
    log.info(
        "train.adapter: all-linear includes the experts, %.0f%% of the weights. To leave them out, "
        "name the layers to train in train.adapter.target_modules.",
        share,
    )


def find_experts(model: Any) -> dict[str, int]:
    """Return the names of the parameters that hold the weights of several experts, and their sizes.

    A convolution, whose weights have three dimensions too, is none. Nor is what is there only once,
    such as the query with which a model pools an image, or what text never reaches, such as the
    positions of Gemma 4's image encoder.
    """
    from torch.nn.modules.conv import _ConvNd

    unread = tuple(f"{part}." for part in find_unread(model))
    return {
        f"{path}.{name}": parameter.numel()
        for path, module in model.named_modules()
        if not isinstance(module, _ConvNd) and not f"{path}.".startswith(unread)
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == EXPERT_DIMENSIONS and len(parameter) > 1
    }


def _get_end(name: str) -> str:
    """Return the last three parts of a name, which are the same in each layer."""
    return ".".join(name.split(".")[-3:])


def check_mergeable(model: Any) -> None:
    """Check before training that an adapter can be merged into the base model.

    Raises:
        UserError: The adapter trains biases of layers that have none.
    """
    for name, module in model.named_modules():
        trained = getattr(module, "lora_bias", None) or {}
        if any(trained.values()) and getattr(module.get_base_layer(), "bias", None) is None:
            raise UserError(
                f"train.adapter.lora_bias: {name} of the base model has no bias, so that the adapter "
                "cannot be merged. The merged model is the one that is measured and registered. "
                "Remove lora_bias."
            )


def train_in_float32(model: Any) -> None:
    """Convert the trained weights to float32.

    TRL makes them bfloat16 on a quantized base model, in which small updates are lost. A new head
    has the type of the base model.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def copy_initial(adapter: dict[str, Any] | None, model: Any) -> dict[str, "torch.Tensor"]:
    """Copy the initial values of an adapter that took them out of the base model's weights.

    Args:
        adapter: `train.adapter`.
        model: The model with its adapter, before training.

    Returns:
        The matrices by name, or nothing for an adapter that left the base model alone.
    """
    if not is_residual(adapter):
        return {}
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model)
    return {name: tensor.clone() for name, tensor in state.items() if _get_side(name)}


def make_plain(folder: Path, initial: dict[str, "torch.Tensor"]) -> None:
    """Rewrite the files of a residual adapter as an adapter of the unchanged base model.

    PiSSA, OLoRA, CorDA and LoRA-GA train `W - s B0 A0 + s B A`, where `A0` and `B0` are the initial values and `s`
    is the scale. The files would hold `A` and `B` alone, and whoever loads them would have to
    compute `A0` and `B0` again, which gives other values if they are random or on another machine.
    The sum is `W + s [B, -B0] [A; A0]`, an adapter of twice the rank. This is what
    `path_initial_model_for_weight_conversion` of peft does, except that peft loses
    `modules_to_save`.

    Args:
        folder: The folder that has the files of the adapter.
        initial: What `copy_initial` returned. If it is empty, nothing is changed.
    """
    if not initial:
        return
    import torch
    from safetensors.torch import load_file, save_file

    trained = load_file(folder / WEIGHTS)
    for name, before in initial.items():
        now = trained[name]
        side = _get_side(name)
        both = [now, before.to(now)] if side == "A" else [now, -before.to(now)]
        trained[name] = torch.cat(both, dim=0 if side == "A" else 1).contiguous()
    save_file(trained, folder / WEIGHTS, metadata={"format": "pt"})
    settings = read_json(folder / SETTINGS)
    # The scale is alpha / r, or alpha / sqrt(r) with rsLoRA, and stays what it was.
    factor = math.sqrt(2) if settings.get("use_rslora") else 2
    settings |= {
        "init_lora_weights": True,
        # peft warns of a section that is of another kind.
        "corda_config": None,
        "lora_ga_config": None,
        "r": 2 * settings["r"],
        "lora_alpha": factor * settings["lora_alpha"],
        "rank_pattern": {k: 2 * v for k, v in (settings.get("rank_pattern") or {}).items()},
        "alpha_pattern": {k: factor * v for k, v in (settings.get("alpha_pattern") or {}).items()},
    }
    write_json(folder / SETTINGS, settings)


def _get_side(name: str) -> str | None:
    """Return which matrix of an adapter has this name, `A` or `B`, or None for other weights."""
    return next(
        (side for side in "AB" if f"lora_{side}." in name or f"_embedding_{side}" in name), None
    )
