"""Make the files of base models that are not on the hub: conversions of GGUF and random weights.

Torch is imported only when weights are created.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

from stages.core.config.model import RandomSource
from stages.core.storage.files import write_json

log = logging.getLogger(__name__)

# This is part of the cache's key. Increase it if the code below changes the bytes of its
# output.
CONVERTER = "3"

SOURCE = "source.json"  # what a converted model was made of
FLOATS = ("ALL_F32", "F16", "BF16")  # the file types of GGUF that are not quantized


def read_gguf(gguf: Path, target: Path) -> None:
    """Save the tokenizer and the configuration of a GGUF file."""
    from transformers import AutoConfig, PreTrainedTokenizerFast

    log.info("Reading the tokenizer of %s. This happens once.", gguf.name)
    PreTrainedTokenizerFast.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(
        target
    )
    # The configuration is saved because it states the model's size.
    AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)


def convert_gguf(gguf: Path, tokenizer: str, target: Path) -> None:
    """Dequantize a GGUF file to float32 safetensors, which load in one second instead of eleven.

    The model is saved with the tokenizer of a folder.
    """
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


def make_tokenizer(target: Path) -> None:
    """Save a tokenizer of bytes with a chat template."""
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


def make_random(source: RandomSource, seed: int, tokenizer: str, target: Path) -> None:
    """Save a model with random weights, and with the tokenizer of a folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens = PreTrainedTokenizerFast.from_pretrained(tokenizer)
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


def _save(model: Any, tokenizer: str, target: Path, quantization: str | None = None) -> None:
    shutil.copytree(tokenizer, target, dirs_exist_ok=True)
    model.save_pretrained(target)
    write_json(target / SOURCE, {"quantization": quantization})
