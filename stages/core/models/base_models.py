"""The files of base models, their sources and their hashes.

Torch is imported only when weights are created.
"""

import logging
import shutil
from dataclasses import dataclass, field, replace
from os.path import lexists
from pathlib import Path
from typing import Any

from stages.core.config.data import WheelSource
from stages.core.config.model import HubSource, ModelConfig, RandomSource
from stages.core.errors import UserError
from stages.core.models.model_folder import WEIGHTS, check_model_folder, list_weights
from stages.core.storage.cache import cached_folder, get_sha256
from stages.core.storage.files import read_json, sha256_json, write_json
from stages.core.storage.hub import explain, get_weights
from stages.core.storage.wheels import get_member

log = logging.getLogger(__name__)

# This is part of the cache's key. Increase it if the conversion below changes the bytes of its
# output.
CONVERTER = "3"

SOURCE = "source.json"  # what a converted model was made of
FLOATS = ("ALL_F32", "F16", "BF16")  # the file types of GGUF that are not quantized
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
    if isinstance(source, WheelSource):
        folder = cached_folder(
            f"models/{source.sha256}-{CONVERTER}",
            lambda to: _convert_gguf(get_member(source), tokenizer, to),
        )
    else:
        key = f"random-{source.hidden_size}-{source.layers}-{source.heads}-{seed}-{CONVERTER}"
        folder = cached_folder(
            f"models/{key}", lambda to: _make_random(source, seed, tokenizer, to)
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
        config = _get_hub_config(source, "model.source.id")
        _require_language_model(config, source.id)
        commit = _get_commit(config, source)
        found = ModelFiles(source.id, commit, None, source.trust_remote_code)
        return _with_template(found, model)
    if isinstance(source, WheelSource):
        folder = cached_folder(
            f"tokenizers/{source.sha256}-{CONVERTER}", lambda to: _read_gguf(get_member(source), to)
        )
    else:
        folder = cached_folder(f"tokenizers/bytes-{CONVERTER}", _make_tokenizer)
    return _with_template(ModelFiles(str(folder), None, None), model)


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
            raise UserError(
                f"{key} {source.id!r}: this model needs Python code of its own, which is not "
                "executed. Choose another model, or read the code and set "
                f"{key.removesuffix('id')}trust_remote_code=true."
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


def _require_language_model(config: Any, name: str) -> None:
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
        f"model.source.id {name!r}: this model, of type {config.model_type!r}, {reason}. Choose a "
        "decoder-only language model that is tuned for instructions."
    )


def _get_commit(config: Any, source: HubSource) -> str | None:
    return getattr(config, "_commit_hash", None) or source.revision


def _read_gguf(gguf: Path, target: Path) -> None:
    from transformers import AutoConfig, PreTrainedTokenizerFast

    log.info("Reading the tokenizer of %s. This happens once.", gguf.name)
    PreTrainedTokenizerFast.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(
        target
    )
    # The configuration is saved because it states the model's size.
    AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)


def _convert_gguf(gguf: Path, tokenizer: ModelFiles, target: Path) -> None:
    """Dequantize a GGUF file to float32 safetensors, which load in one second instead of eleven."""
    import torch
    from transformers import AutoModelForCausalLM

    log.info("Converting %s to safetensors. This happens once.", gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # With these attributes save_pretrained would use a GGUF quantizer, which cannot save.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.is_quantized = False
    _save(model, tokenizer, target, get_file_type(gguf))


def get_file_type(gguf: Path) -> str | None:
    """Return the type of most weights of a GGUF file, such as `Q4_1`, or None for floats."""
    from gguf import GGUFReader, LlamaFileType

    field = GGUFReader(gguf).fields.get("general.file_type")
    if field is None:
        return "unknown"
    name = LlamaFileType(int(field.contents())).name.removeprefix("MOSTLY_")
    return None if name in FLOATS else name


def _make_tokenizer(target: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(special + alphabet)}, merges=[])
    )
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens, eos_token=special[1], pad_token=special[1]
    )
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n"
        "{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(target)


def _make_random(source: RandomSource, seed: int, tokenizer: ModelFiles, target: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens = PreTrainedTokenizerFast.from_pretrained(tokenizer.path)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokens),
                **source.sizes,
                max_position_embeddings=4096,
                bos_token_id=0,
                eos_token_id=tokens.eos_token_id,
                pad_token_id=tokens.pad_token_id,
            )
        )
    _save(model, tokenizer, target)


def _save(model: Any, tokenizer: ModelFiles, target: Path, quantization: str | None = None) -> None:
    shutil.copytree(tokenizer.path, target, dirs_exist_ok=True)
    model.save_pretrained(target)
    write_json(target / SOURCE, {"quantization": quantization})
