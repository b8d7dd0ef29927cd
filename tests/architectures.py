"""The matrix of model architectures: tiny random models of each, built without a download.

Tests of several subjects import it, and `docs/models.md` is written from it by
`python -m tests.matrix`.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VOCABULARY = 300  # the tokens of the tiny random model's tokenizer are fewer
WINDOW = 12
END = 1

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": END,
    "pad_token_id": END,
    "tie_word_embeddings": False,  # random tied weights repeat the last token of the prompt
    # Random weights of the usual size give nearly the same logits for every prompt.
    "initializer_range": 0.3,
}
MIXED = ["sliding_attention", "full_attention"]
ROTATION = {"rope_type": "default", "rope_theta": 10_000.0}
MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
SHARED = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_conv_kernel_dim": 4,
}
GEMMA4 = {
    "sliding_window": WINDOW,
    "layer_types": MIXED * 2,
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
    "global_head_dim": 8,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY,
}
MAMBA = {
    "layer_types": ["mamba", "attention"],
    "shared_intermediate_size": 48,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
}
LATENT = {
    "head_dim": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture of the matrix."""

    name: str
    """What people call it."""
    model_type: str
    """Its `model_type` in `config.json`."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """What its configuration has beside `SMALL`."""
    window: int | None = None
    """The positions that a token of a sliding layer sees; None without such layers."""
    experts: bool = False
    """Whether a router chooses experts."""
    example: str = ""
    """A family of published models of this architecture."""

    def build(self, seed: int = 0) -> "PreTrainedModel":
        """Build the model with random weights in float32, in evaluation mode, on the CPU."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.for_model(self.model_type, **SMALL | self.sizes)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            for parameter in model.parameters():
                if parameter.dim() == 1:  # a bias of zero would hide what reads padding
                    parameter.data += 0.3 * torch.randn_like(parameter)
            return model.eval()


MATRIX = (
    Architecture("Llama", "llama", example="Llama 3, SmolLM2"),
    Architecture("Qwen2", "qwen2", example="Qwen2.5"),
    Architecture("Qwen3", "qwen3", example="Qwen3"),
    Architecture("SmolLM3", "smollm3", example="SmolLM3"),
    Architecture("Mistral", "mistral", {"sliding_window": WINDOW}, WINDOW, example="Mistral 7B"),
    Architecture("Phi-3", "phi3", {"sliding_window": WINDOW}, WINDOW, example="Phi-3, Phi-4 mini"),
    Architecture(
        "Gemma 2",
        "gemma2",
        {"sliding_window": WINDOW, "layer_types": MIXED},
        WINDOW,
        example="Gemma 2",
    ),
    Architecture(
        "Gemma 3",
        "gemma3_text",
        {"sliding_window": WINDOW, "layer_types": MIXED},
        WINDOW,
        example="Gemma 3 270M and 1B",
    ),
    Architecture(
        "Gemma 3 with images",
        "gemma3",
        {
            "text_config": SMALL | {"sliding_window": WINDOW, "layer_types": MIXED},
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
            "mm_tokens_per_image": 1,
        },
        WINDOW,
        example="Gemma 3 4B to 27B",
    ),
    Architecture("Gemma 4", "gemma4_text", GEMMA4, WINDOW, example="the text part of Gemma 4"),
    Architecture(
        "Gemma 4 with images",
        "gemma4",
        {
            "text_config": SMALL | GEMMA4,
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "patch_size": 14,
                "position_embedding_size": 8,
            },
            "audio_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "output_proj_dims": 16,
                "subsampling_conv_channels": [4, 4],
            },
        },
        WINDOW,
        example="Gemma 4 E2B and E4B",
    ),
    Architecture(
        "gpt-oss",
        "gpt_oss",
        {"sliding_window": WINDOW, "layer_types": MIXED, "rope_parameters": ROTATION, **MOE},
        WINDOW,
        True,
        "gpt-oss",
    ),
    Architecture("OLMo", "olmo", example="OLMo 1"),
    Architecture("OLMo 2", "olmo2", example="OLMo 2"),
    Architecture(
        "OLMo 3",
        "olmo3",
        {"sliding_window": WINDOW, "layer_types": MIXED},
        WINDOW,
        example="OLMo 3",
    ),
    Architecture("Granite hybrid", "granitemoehybrid", MAMBA | MOE, None, True, "Granite 4"),
    Architecture("LFM2", "lfm2", {"layer_types": ["conv", "full_attention"]}, example="LFM2"),
    Architecture("Qwen3-Next", "qwen3_next", {**LINEAR, **SHARED}, None, True, "Qwen3-Next"),
    Architecture("Qwen3.5", "qwen3_5_text", LINEAR, example="the text part of Qwen3.5"),
    Architecture(
        "MiniMax",
        "minimax",
        {"layer_types": ["linear_attention", "full_attention"], **MOE},
        experts=True,
        example="MiniMax-Text-01",
    ),
    Architecture("DeepSeek", "deepseek_v3", LATENT, None, True, "DeepSeek V3"),
)

REGISTERED = ("lora", "full")
"""The options of `train` after which the tests register every architecture."""
EXPORTED = ("merged", "adapter")
"""The formats in which the tests export every architecture; an adapter only after LoRA."""
GGUF = {
    "Llama": "proved",
    "Qwen2": "proved",
    "Qwen3": "proved",
    "SmolLM3": "converted",
    "Mistral": "proved",
    "Phi-3": "proved",
    "Gemma 2": "proved",
    "Gemma 3": "proved",
    "Gemma 3 with images": "proved",
    "Gemma 4": "converted",
    "Gemma 4 with images": "converted",
    "gpt-oss": "converted",
    "OLMo": "converted",
    "OLMo 2": "converted",
    "OLMo 3": "converted",
    "Granite hybrid": "converted",
    "LFM2": "proved",
    "Qwen3-Next": "converted",
    "Qwen3.5": "proved",
    "MiniMax": "refused",
    "DeepSeek": "refused",
}
"""What came of each architecture when `python -m tests.gguf_matrix` ran llama.cpp's converter."""
