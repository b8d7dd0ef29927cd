"""Loading of tokenizers, base models and tuned models.

Torch and transformers are imported only when they are needed.
"""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.data.template_arguments import set_arguments
from stages.core.data.templates import check_template
from stages.core.environment.processes import is_sharded
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles
from stages.core.models.pretrained import CAUSAL, load_pretrained
from stages.core.storage.cache import get_sha256
from stages.core.storage.files import read_json, sha256_file, sha256_json
from stages.core.storage.hub import explain

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TUNED = Path("models/tuned")
SERVED = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken")
"""The endings of the files in a model's folder that decide what it computes."""


def weights_sha256(folder: Path = TUNED) -> str:
    """Compute the SHA-256 of a tuned model's weights, whether they are an adapter or a whole model.

    For several files it is the hash of the list of their hashes.

    Raises:
        UserError: The folder has no weights.
    """
    digests = [sha256_file(path) for path in sorted(folder.glob("*.safetensors"))]
    if not digests:
        raise UserError(
            f"{folder} has no weights (*.safetensors): run `dvc repro`, which trains the model"
        )
    return digests[0] if len(digests) == 1 else sha256_json(digests)


def hash_model(folder: Path) -> str:
    """Compute the SHA-256 of the files that decide what a model in a folder computes.

    These are the weights, the configuration and the tokenizer.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in SERVED)
    return sha256_json(
        {path.name: get_sha256(path) for path in files if path.name != "training.json"}
    )


def get_tokenizer(base: ModelFiles, chats: bool = True) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a model, without importing torch if possible.

    Args:
        base: The files of the model.
        chats: Whether the model answers chats. If so, the tokenizer pads on the left, as generation
            needs it. Otherwise it pads on the right.

    Raises:
        UserError: The tokenizer cannot be loaded. Or the model answers chats, but its tokenizer has
            no end token or no sound chat template, or the template does not read one of its
            arguments. Or the tokenizer has no token for padding.
    """
    # A classifier's texts have no template. The setting is saved with its tokenizer, so that whoever
    # serves it reads `[SEP]` in a text as text too.
    splits = {} if chats else {"split_special_tokens": True}
    tokenizer = _load_tokenizer(base, splits)
    tokenizer.chat_template = base.chat_template or tokenizer.chat_template
    if chats and (not tokenizer.chat_template or tokenizer.eos_token_id is None):
        lacks = "end token" if tokenizer.chat_template else "chat template"
        raise UserError(
            f"{base.path}: the tokenizer has no {lacks}; choose an instruction-tuned model, give the "
            "file of a template as model.chat_template, or check that chat_template.jinja and "
            "tokenizer_config.json are there and complete"
        )
    if chats and (base.chat_template or base.chat_template_kwargs):
        tokenizer.chat_template = set_arguments(tokenizer.chat_template, base.chat_template_kwargs)
    if chats:
        check_template(tokenizer)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise UserError(
            f"{base.path}: the tokenizer has neither a padding token nor an end token; choose "
            "another model"
        )
    tokenizer.padding_side = "left" if chats else "right"
    return tokenizer


def _load_tokenizer(base: ModelFiles, splits: dict[str, bool]) -> "PreTrainedTokenizerBase":
    kind = _tokenizer_class(base)
    try:
        return kind.from_pretrained(base.path, **base.arguments, **splits)
    except MemoryError:
        raise
    except Exception as error:  # a file or code from outside may raise anything
        raise UserError(
            f"{base.path}: the tokenizer cannot be loaded: {explain(error)} Check that tokenizer.json "
            "and tokenizer_config.json are there and complete, or choose another model."
        ) from None


def _tokenizer_class(base: ModelFiles) -> Any:
    """Return the class that `AutoTokenizer` would choose.

    Calling `AutoTokenizer` itself imports torch, which takes seconds.
    """
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
    base: ModelFiles,
    dtype: str,
    quantization: dict[str, Any] | None = None,
    kind: str = CAUSAL,
    **others: Any,
) -> "PreTrainedModel":
    """Load a base model in evaluation mode, onto the GPU if there is one.

    Args:
        base: The files of the model.
        dtype: `auto`, `bfloat16`, `float16` or `float32`.
        quantization: The arguments of `transformers.BitsAndBytesConfig`. None does not quantize.
        kind: The auto class of transformers that loads the model.
        others: Further arguments for `from_pretrained` of this class.

    Raises:
        UserError: Bitsandbytes is not installed or rejects the arguments, or the files of weights
            do not fit the model's configuration.
    """
    if quantization is None:
        model = load_pretrained(base, get_dtype(dtype), kind, **others).eval()
        # If the model is sharded, accelerate moves the part of each process to its GPU.
        return model if is_sharded() else model.to(get_device())
    from transformers import BitsAndBytesConfig

    unknown = set(quantization) - set(inspect.signature(BitsAndBytesConfig).parameters)
    if unknown:
        raise UserError(
            f"train.quantization.{min(unknown)}: transformers.BitsAndBytesConfig has no such "
            "argument; remove it"
        )
    try:
        others |= {
            "quantization_config": BitsAndBytesConfig(**quantization),
            "device_map": {"": get_device()},
        }
        return load_pretrained(base, get_dtype(dtype), kind, **others).eval()
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        advice = (
            "Install it with `pip install -c constraints.txt --group qlora`, or choose train=lora."
            if isinstance(error, ImportError)
            else "Change train.quantization, or choose train=lora. Except for a trial run, "
            "quantization needs a GPU."
        )
        raise UserError(f"train.quantization: {error}. {advice}") from None


def get_tuned_model(
    base: ModelFiles, dtype: str, tuned: Path = TUNED, kind: str = CAUSAL
) -> "PreTrainedModel":
    """Load the tuned model with exactly the weights that `register` ships.

    An adapter is merged into the base model in float32 before the cast to `dtype`.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoConfig

    if (tuned / "adapter_config.json").exists():
        others = {}
        if (tuned / "config.json").exists():  # a classifier saves its configuration with the labels
            others["config"] = AutoConfig.from_pretrained(
                tuned, trust_remote_code=base.trust_remote_code
            )
        model = PeftModel.from_pretrained(
            load_pretrained(base, torch.float32, kind, **others), str(tuned)
        ).merge_and_unload()
    else:
        model = load_pretrained(
            ModelFiles(str(tuned), None, None, base.trust_remote_code), torch.float32, kind
        )
    # Buffers are not cast: rotary frequencies stay in float32, as they do when loaded from disk.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(get_dtype(dtype))
    return model.to(get_device()).eval()


def get_dtype(name: str) -> "torch.dtype":
    """Return the torch dtype of a name.

    `auto` means bfloat16 if the hardware multiplies it natively. Otherwise it means float16 on a
    GPU, such as those before Ampere, which only emulate bfloat16, and float32 on a processor.
    """
    import torch

    if name != "auto":
        return getattr(torch, name)
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def get_saved_dtype(folder: Path) -> str:
    """Return the type in which the weights in a folder were saved, such as `bfloat16`."""
    saved = read_json(folder / "config.json")
    return str(saved.get("dtype") or saved.get("torch_dtype") or "float32")


def get_device() -> str:
    """Return the device of models: the current GPU, or the CPU if there is none."""
    import torch

    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
