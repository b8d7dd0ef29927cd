"""Models from GGUF files in wheels, with a tiny file that the test writes."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter, LlamaFileType, TokenType
from tokenizers import pre_tokenizers

from stages.core.config.data import WheelSource
from stages.core.config.model import WheelPartsSource
from stages.core.models.base_models import get_base_model, get_base_tokenizer
from stages.core.models.loading import get_model
from stages.core.storage.files import sha256_file
from tests.wheels import pin, write_parts, write_wheel

TOKENS = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
WIDTH = 8
TENSORS = {
    "token_embd": (len(TOKENS), WIDTH),
    "output_norm": (WIDTH,),
    "blk.0.attn_norm": (WIDTH,),
    "blk.0.attn_q": (WIDTH, WIDTH),
    "blk.0.attn_k": (WIDTH, WIDTH),
    "blk.0.attn_v": (WIDTH, WIDTH),
    "blk.0.attn_output": (WIDTH, WIDTH),
    "blk.0.ffn_norm": (WIDTH,),
    "blk.0.ffn_gate": (2 * WIDTH, WIDTH),
    "blk.0.ffn_up": (2 * WIDTH, WIDTH),
    "blk.0.ffn_down": (WIDTH, 2 * WIDTH),
}


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The folder from which pip takes wheels, and an empty cache."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write_gguf(path, seed=0):
    """Write a Llama of one layer with a tokenizer of bytes, and return the bytes of the file."""
    writer = GGUFWriter(path, "llama")
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL] + [TokenType.NORMAL] * (len(TOKENS) - 1))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    drawn = np.random.default_rng(seed)
    for name, shape in TENSORS.items():
        writer.add_tensor(f"{name}.weight", drawn.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_two_gguf_files_of_one_wheel_are_two_models(config, index):
    files = {f"two/{seed}.gguf": write_gguf(index / "tiny.gguf", seed) for seed in (0, 1)}
    wheel = write_wheel(index, "two", files)
    sources = [WheelSource(kind="wheel", **pin(wheel, name).model_dump()) for name in files]
    settings = [config().model.model_copy(update={"source": source}) for source in sources]
    first, second = (get_base_model(model, seed=42) for model in settings)
    assert first.sha256 != second.sha256


def test_a_gguf_file_in_parts_is_the_model_that_it_is_in_one_wheel(config, index):
    gguf = write_gguf(index / "tiny.gguf")
    whole = pin(write_wheel(index, "whole", {"whole/tiny.gguf": gguf}), "whole/tiny.gguf")
    cut = len(gguf) // 3
    parts = write_parts(index, [gguf[:cut], gguf[cut : 2 * cut], gguf[2 * cut :]])
    sources = [
        WheelSource(kind="wheel", **whole.model_dump()),
        WheelPartsSource(kind="wheel-parts", sha256=hashlib.sha256(gguf).hexdigest(), parts=parts),
    ]
    settings = [config().model.model_copy(update={"source": source}) for source in sources]
    texts = [Path(get_base_tokenizer(model).path, "tokenizer.json") for model in settings]
    assert sha256_file(texts[0]) == sha256_file(texts[1])
    one, joined = (get_base_model(model, seed=42) for model in settings)
    assert one.path != joined.path
    assert one.sha256 == joined.sha256
    assert joined.quantization is None
    assert get_model(joined, "float32").config.hidden_size == WIDTH
