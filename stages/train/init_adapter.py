"""Start training from the weights of an adapter that was trained before."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from stages.core.config.train import CLASSIFYING
from stages.core.environment.lineage import data_sha256
from stages.core.errors import UserError
from stages.core.models.adapters import (
    CONFIG,
    HEAD_CONFIG,
    TRAINING,
    WEIGHTS,
    AdapterFiles,
    get_init_adapter,
)
from stages.core.storage.files import read_json

if TYPE_CHECKING:
    from stages.train.methods.base import Method

log = logging.getLogger(__name__)

KEY = "train.init_adapter.source"
SAME = {
    "r": 8,
    "lora_alpha": 8,
    "use_rslora": False,
    "use_dora": False,
    "bias": "none",
    "lora_bias": False,
    "fan_in_fan_out": False,
    "rank_pattern": {},
    "alpha_pattern": {},
}
"""The arguments of `peft.LoraConfig` on which the meaning of the weights depends, with their
defaults. The names of the weights show to which layers they belong."""
UNCHANGED_BASE = ("gaussian", "eva")
"""The kinds of `init_lora_weights` with a name that leave the base model as it is."""
WITH_REFERENCE = ("dpo", "kto", "grpo")
"""Methods that compare the model with a reference, which is the model before training."""
TRAINED = "default"  # peft's name of the adapter that is trained
REFERENCE = "ref"  # TRL's name of the adapter of the reference


def load_init_adapter(trainer: Any, method: "Method") -> None:
    """Load the weights of `train.init_adapter`, if there is one, into the adapter of the trainer.

    Its source and its hash go into `method.metadata["init_adapter"]`. For methods with a reference
    model, the reference gets these weights too, as in TRL.

    Raises:
        UserError: The adapter does not fit the model or `train.adapter`.
    """
    own = method.config.train.init_adapter
    files = get_init_adapter(own)
    if files is None:
        return
    _check_base(files, method)
    _check_config(files, method)
    model = trainer.model
    _check_labels(files, method, model.config)
    _load(files, model)
    if method.config.train.method in WITH_REFERENCE:
        _add_reference(model)
    method.metadata["init_adapter"] = {
        "source": own.source,
        "revision": files.revision,
        "sha256": files.sha256,
    }
    log.info("Training starts from the adapter %s (SHA-256 %s).", own.source, files.sha256[:12])


def _check_base(files: AdapterFiles, method: "Method") -> None:
    """Check that the adapter was trained on the base model of this run, as far as it says."""
    file = files.folder / TRAINING
    if file.is_file():
        training = read_json(file)
        base = training["base_model"]
        if (base["sha256"], base["revision"]) != (method.base.sha256, method.base.revision):
            raise UserError(
                f"{KEY}: the adapter was trained on {base['name']}, whose weights are not those of "
                f"{method.name}; choose that base model or another adapter"
            )
        _warn_about_rows(training)
        return
    named = read_json(files.folder / CONFIG).get("base_model_name_or_path")
    if named not in (method.name, method.base.path):
        log.warning("%s: the adapter says it belongs to %s, not %s.", KEY, named, method.name)


def _warn_about_rows(training: Mapping[str, Any]) -> None:
    """Warn if the adapter was trained on other rows, among which today's test rows may be.

    Args:
        training: The content of the adapter's `training.json`.
    """
    trained = training.get("data_sha256", {}).get("train")
    if trained and trained != data_sha256()["train"]:
        log.warning(
            "%s: the adapter was trained on other rows than those of data/prepared/train.jsonl. If "
            "rows of the test split were among them, as with another seed of the same data, the "
            "tuned model has seen them and its score on them proves nothing.",
            KEY,
        )


def _check_config(files: AdapterFiles, method: "Method") -> None:
    """Check that `train.adapter` describes the same computation as the adapter's own file."""
    own = read_json(files.folder / CONFIG)
    if own.get("peft_type") != "LORA":
        raise UserError(f"{KEY}: it is an adapter of type {own.get('peft_type')}, not LORA")
    kind = own.get("init_lora_weights")
    if isinstance(kind, str) and kind not in UNCHANGED_BASE:
        raise UserError(
            f"{KEY}: the adapter began with init_lora_weights={kind}, which "
            "changes the base model; save it with path_initial_model_for_weight_conversion of peft"
        )
    given = method.config.train.adapter or {}
    wanted = {key: own.get(key) or default for key, default in SAME.items()}
    differences = [
        f"train.adapter.{key}={value} (not {given.get(key, SAME[key])})"
        for key, value in wanted.items()
        if (given.get(key) or SAME[key]) != value
    ]
    if differences:
        raise UserError(f"{KEY}: the adapter needs {', '.join(differences)}; set these values")


def _check_labels(files: AdapterFiles, method: "Method", settings: Any) -> None:
    """Check that the head of a classifier has the labels of this run."""
    saved = files.folder / HEAD_CONFIG
    if method.config.train.method not in CLASSIFYING or not saved.is_file():
        return
    before = list(read_json(saved).get("id2label", {}).values())
    now = list(settings.id2label.values())
    if before != now:
        raise UserError(
            f"{KEY}: the adapter's head has the labels {', '.join(before)}, but the training rows "
            f"have {', '.join(now)}"
        )


def _load(files: AdapterFiles, model: Any) -> None:
    """Load the weights, which must be those that the model's adapter has."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    given = load_file(files.folder / WEIGHTS)
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    unknown = sorted(given.keys() - wanted.keys())
    # A new head begins with new weights, for example that of a reward model on a tuned model.
    missing = sorted(name for name in wanted.keys() - given.keys() if "lora_" in name)
    other = sorted(
        name for name in given.keys() & wanted.keys() if given[name].shape != wanted[name].shape
    )
    for what, names in (
        ("has weights that train.adapter lacks", unknown),
        ("lacks weights that train.adapter has", missing),
        ("has weights of another shape", other),
    ):
        if names:
            raise UserError(
                f"{KEY}: the adapter {what}: {names[0]} and {len(names) - 1} more. Set "
                "train.adapter.target_modules and the base model to those of the adapter"
            )
    set_peft_model_state_dict(model, wanted | given, adapter_name=TRAINED)


def _add_reference(model: Any) -> None:
    """Add a copy of the adapter under the name by which TRL finds the reference."""
    model.add_adapter(REFERENCE, model.peft_config[TRAINED])
    for name, parameter in model.named_parameters():
        if f".{REFERENCE}." in name:
            source = model.get_parameter(name.replace(f".{REFERENCE}.", f".{TRAINED}."))
            parameter.data = source.data.clone()
            parameter.requires_grad = False
    model.set_adapter(TRAINED)
    # With two adapters transformers would resume from neither of them.
    model.save_pretrained = partial(model.save_pretrained, selected_adapters=[TRAINED])
