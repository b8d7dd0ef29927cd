"""A stand-in for llama.cpp's converter that knows Llama with a tokenizer of bytes.

`FAKE_CONVERTER` makes it fail in the ways of the real one, or write another model.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
KINDS = {
    "f16": gguf.GGMLQuantizationType.F16,
    "bf16": gguf.GGMLQuantizationType.BF16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}


class ModelBase:
    """What reads the settings."""

    @staticmethod
    def load_hparams(folder: Path, is_mistral_format: bool) -> dict[str, object]:
        assert not is_mistral_format
        return json.loads((folder / "config.json").read_text())


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """Order the rows of queries and keys as llama.cpp rotates them."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def fail(fault: str, folder: Path) -> None:
    """Fail as the real converter does."""
    if fault == "architecture":
        sys.exit("ERROR:hf-to-gguf:Model OddForCausalLM is not supported")
    if fault == "tokenizer":
        raise NotImplementedError(
            "BPE pre-tokenizer was not recognized - update get_vocab_base_pre()"
        )
    if fault == "vocabulary" and not (folder / "tokenizer.model").exists():
        raise FileNotFoundError(f"File not found: {folder / 'tokenizer.model'}")
    if fault == "package":
        raise ModuleNotFoundError("No module named 'sentencepiece'")
    if fault == "defect":
        raise ValueError("odd weights")


def read_weights(folder: Path, fault: str) -> dict[str, np.ndarray]:
    """Read the weights, some of which the faulty converter leaves out."""
    found = load_file(folder / "model.safetensors")
    if fault == "incomplete":
        del found["model.norm.weight"]
    return found


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    for name in ("--outtype", "--outfile", "--model-name"):
        parser.add_argument(name)
    given = parser.parse_args()
    fault = os.environ.get("FAKE_CONVERTER", "")
    fail(fault, given.model)
    config = ModelBase.load_hparams(given.model, is_mistral_format=False)
    tokenizer = json.loads((given.model / "tokenizer.json").read_text())
    template = (given.model / "chat_template.jinja").read_text()
    heads = config["num_attention_heads"]
    writer = gguf.GGUFWriter(given.outfile, "llama")
    writer.add_name(given.model_name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(template + ("!" if fault == "template" else ""))

    for key, weights in read_weights(given.model, fault).items():
        part = key.removesuffix(".weight")
        _, _, rest = part.partition("model.layers.")
        number, _, layer = rest.partition(".")
        name = f"blk.{number}.{LAYER[layer]}" if rest else WHOLE[part]
        data = permute(weights, heads) if layer.endswith(("q_proj", "k_proj")) else weights
        if fault == "weights" and part == "lm_head":
            data = data + 1e-3
        kind = KINDS.get(given.outtype) if data.ndim > 1 else None
        if kind:
            writer.add_tensor(f"{name}.weight", gguf.quantize(data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
