"""Models of known shapes with random weights, and rows of random tokens, for `benchmarks.gpu_check`.

The rate of training depends on shapes and lengths and not on what the numbers are, so nothing is
downloaded.
"""

import random
from dataclasses import dataclass
from typing import Any

from stages.core.planning.model_dimensions import ModelDimensions

IGNORED = -100
PROMPT = 0.5  # the part of a row that is read and not learned


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a model of the Qwen3 architecture."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    head: int
    vocabulary: int
    tied: bool
    rank: int | None
    """The rank of the adapters. None trains every weight."""
    quantized: bool = False
    """Whether the frozen weights have 4 bits."""
    lean: bool = False
    """Whether the trained weights are in bfloat16, with an optimizer of 8 bits."""

    @property
    def dimensions(self) -> ModelDimensions:
        """The dimensions for the memory formula."""
        return ModelDimensions(
            *(self.hidden, self.intermediate, self.layers, self.vocabulary),
            self.key_heads * self.head,
            self.tied,
        )


SHAPES = (  # from the config.json of Qwen3-1.7B, Qwen3-0.6B and Qwen3-8B
    Shape("1.7B, LoRA", 2048, 6144, 28, 16, 8, 128, 151936, True, 16),
    Shape("0.6B, full", 1024, 3072, 28, 16, 8, 128, 151936, True, None),
    Shape("8B, LoRA", 4096, 12288, 36, 32, 8, 128, 151936, False, 16),
)
SMALL_SHAPES = (  # that are trained with less memory for their weights
    Shape("1.7B, QLoRA", 2048, 6144, 28, 16, 8, 128, 151936, True, 16, quantized=True),
    Shape("8B, full, bfloat16", 4096, 12288, 36, 32, 8, 128, 151936, False, None, lean=True),
)
TOYS = (
    Shape("toy, LoRA", 32, 48, 2, 4, 2, 8, 300, True, 4),
    Shape("toy, full", 32, 48, 2, 4, 2, 8, 300, True, None),
)
SMALL_TOYS = (  # the blocks of 4 bits have 64 weights
    Shape("toy, QLoRA", 64, 128, 2, 4, 2, 16, 300, True, 4, quantized=True),
    Shape("toy, full, bfloat16", 32, 48, 2, 4, 2, 8, 300, True, None, lean=True),
)
LENGTHS = {"short": 70, "long": 2048}  # the mean number of tokens of a row
TOY_LENGTHS = {"short": 8, "long": 24}


def get_shape(name: str) -> Shape:
    """Return the shape of a name."""
    shapes = SHAPES + SMALL_SHAPES + TOYS + SMALL_TOYS
    return next(shape for shape in shapes if shape.name == name)


def make_model(shape: Shape, dtype: Any, device: str) -> Any:
    """Make a model with random weights on a device."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        head_dim=shape.head,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=32768,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return Qwen3ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)


def make_rows(mean: int, tokens: int, vocabulary: int) -> list[dict[str, Any]]:
    """Make rows of half to one and a half times a length, with as many tokens in all as wanted."""
    draw = random.Random(42)
    rows: list[dict[str, Any]] = []
    total = 0
    while total < tokens:
        length = draw.randint(mean // 2, mean * 3 // 2)
        ids = [draw.randrange(vocabulary) for _ in range(length)]
        read = int(PROMPT * length)
        labels = [IGNORED] * read + ids[read:]
        rows.append({"row": len(rows), "input_ids": ids, "labels": labels, "length": length})
        total += length
    return rows
