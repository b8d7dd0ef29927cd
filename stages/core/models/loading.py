"""Tokenizers, base models and tuned models in memory. Torch and transformers are imported when they are needed."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.environment.processes import is_sharded
from stages.core.errors import UserError
from stages.core.models.base_models import BaseModel
from stages.core.storage.files import read_json, sha256_file, sha256_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TUNED = Path("models/tuned")
CAUSAL = "AutoModelForCausalLM"


def weights_sha256(folder: Path = TUNED) -> str:
    """SHA-256 of a tuned model's weights, adapter or whole; of several files that of the list of theirs.

    Raises:
        UserError: there are no weights.
    """
    digests = [sha256_file(path) for path in sorted(folder.glob("*.safetensors"))]
    if not digests:
        raise UserError(
            f"{folder} has no weights (*.safetensors): run `dvc repro`, which trains them"
        )
    return digests[0] if len(digests) == 1 else sha256_json(digests)


def get_tokenizer(base: BaseModel, chats: bool = True) -> "PreTrainedTokenizerBase":
    """The base model's tokenizer. Imports no torch where it can be helped.

    Args:
        base: its files.
        chats: whether the model answers chats: then it pads on the left, as generation needs it, else on the right.

    Raises:
        UserError: it has no chat template or no end token, where the model answers chats; or nothing to pad with.
    """
    tokenizer = _tokenizer_class(base).from_pretrained(base.path, **base.arguments)
    if chats and (not tokenizer.chat_template or tokenizer.eos_token_id is None):
        raise UserError(
            f"{base.path}: its tokenizer has no chat template or no end token; choose an instruction-tuned model"
        )
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise UserError(
            f"{base.path}: its tokenizer has no token to pad with and no end token; choose another model"
        )
    tokenizer.padding_side = "left" if chats else "right"
    return tokenizer


def _tokenizer_class(base: BaseModel) -> Any:
    """What `AutoTokenizer` would choose: asking it imports torch, which takes seconds."""
    config = Path(base.path) / "tokenizer_config.json"
    if config.exists() and read_json(config).get("tokenizer_class") in {
        "TokenizersBackend",
        "PreTrainedTokenizerFast",
    }:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def get_model(
    base: BaseModel,
    dtype: str,
    quantization: dict[str, Any] | None = None,
    kind: str = CAUSAL,
    **others: Any,
) -> "PreTrainedModel":
    """The base model in evaluation mode, on the GPU where there is one.

    Args:
        base: its files.
        dtype: `auto`, `bfloat16` or `float32`.
        quantization: arguments of `transformers.BitsAndBytesConfig`; None keeps the weights as they are.
        kind: the class of transformers that loads it.
        others: for its `from_pretrained`.

    Raises:
        UserError: bitsandbytes is not there, or refuses the arguments.
    """
    if quantization is None:
        model = _load(base, get_dtype(dtype), kind, **others).eval()
        return (
            model if is_sharded() else model.to(get_device())
        )  # accelerate puts each process's part onto its GPU
    from transformers import BitsAndBytesConfig

    unknown = set(quantization) - set(inspect.signature(BitsAndBytesConfig).parameters)
    if unknown:
        raise UserError(
            f"train.quantization.{min(unknown)}: transformers.BitsAndBytesConfig has no such argument"
        )
    try:
        others |= {
            "quantization_config": BitsAndBytesConfig(**quantization),
            "device_map": {"": get_device()},
        }
        return _load(base, get_dtype(dtype), kind, **others).eval()
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"train.quantization: {error}. It needs `pip install -c constraints.txt '.[qlora]'` and, "
            "but for a trial, a GPU; train=lora does without."
        ) from None


def get_tuned_model(
    base: BaseModel, dtype: str, tuned: Path = TUNED, kind: str = CAUSAL
) -> "PreTrainedModel":
    """The tuned model, an adapter merged in float32 before the cast: the very weights that `register` ships."""
    import torch
    from peft import PeftModel
    from transformers import AutoConfig

    if (tuned / "adapter_config.json").exists():
        others = {}
        if (tuned / "config.json").exists():  # that of a classifier, with its labels
            others["config"] = AutoConfig.from_pretrained(
                tuned, trust_remote_code=base.trust_remote_code
            )
        model = PeftModel.from_pretrained(
            _load(base, torch.float32, kind, **others), str(tuned)
        ).merge_and_unload()
    else:
        model = _load(
            BaseModel(str(tuned), None, None, base.trust_remote_code), torch.float32, kind
        )
    for parameter in (
        model.parameters()
    ):  # not the buffers: rotary frequencies stay float32, as when loaded from disk
        parameter.data = parameter.data.to(get_dtype(dtype))
    return model.to(get_device()).eval()


def get_dtype(name: str) -> "torch.dtype":
    """`auto` is bfloat16 where the hardware multiplies it natively, float32 elsewhere."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def get_device() -> str:
    """Where models go: the current GPU, or the processor where there is none."""
    import torch

    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def _load(base: BaseModel, dtype: "torch.dtype", kind: str, **others: Any) -> "PreTrainedModel":
    import transformers
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of one second
    load = getattr(transformers, kind).from_pretrained
    try:
        return load(base.path, dtype=dtype, use_safetensors=True, **base.arguments, **others)
    except OSError as error:
        if error.errno is not None:  # of the operating system
            raise
        raise UserError(
            f"{base.path}: {error} Only safetensors are loaded, because a pickle can run code."
        ) from None
