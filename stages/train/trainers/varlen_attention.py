"""Attention on a GPU that attends within each of the rows that `packing` joined into one.

It is PyTorch's own flash attention for rows of various lengths. transformers knows it as `VARLEN`
once this module is imported. The keywords of the offsets are those that transformers and TRL give
their own kernels, so TRL's padding-free batches can use it too.
"""

from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from stages.train.trainers.packing import mask_of_rows, refuse_joined_rows

VARLEN = "varlen"  # the name under which transformers knows this attention
LARGEST_HEAD = 256  # the largest head size of PyTorch's flash attention
HEAD_UNIT = 8  # of which the size of a head must be a multiple
UNKNOWN = ("s_aux", "softcap", "position_bias")  # arguments of other attentions
AMPERE = 8  # the first compute capability of flash attention


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute causal attention within each row.

    Without `cu_seq_lens_q`, as in generation, this is PyTorch's attention for padded rows.

    Args:
        module: The attention layer.
        query: The queries of shape (1, heads, tokens, head size), one row after another.
        key: The keys of shape (1, key heads, tokens, head size). The number of heads is a multiple
            of the number of key heads.
        value: The values, of the shape of the keys, perhaps with another head size.
        attention_mask: The mask. It is not needed with `cu_seq_lens_q`.
        scaling: The factor of the scores. None means 1 / sqrt(head size).
        dropout: The dropout probability of the attention weights, which must be 0 for joined rows,
            because the kernel has no dropout.
        cu_seq_lens_q: The first token of each row and the number of all tokens, int32.
        max_length_q: The number of tokens of the longest row.
        sliding_window: How many tokens a token attends to, itself included. None means all.
        others: The other arguments that transformers passes to every attention.

    Returns:
        The output of shape (1, tokens, heads, head size), and None instead of attention weights.
    """
    if cu_seq_lens_q is None or max_length_q is None:
        refuse_joined_rows(module)
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **others
        )
    if dropout or any(others.get(name) is not None for name in UNKNOWN):
        raise NotImplementedError(f"varlen_attn has no dropout and none of {', '.join(UNKNOWN)}")
    size = query.shape[-1]
    width = value.shape[-1]
    # Heads of some models have narrower values than keys, which the kernel does not know.
    padded = functional.pad(value, (0, size - width)) if width < size else value
    q, k, v = (x[0].transpose(0, 1).to(_dtype(value)) for x in (query, key, padded))
    windowed = sliding_window is not None and sliding_window < max_length_q
    found: Any = varlen_attn(
        q,
        k,
        v,
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=size**-0.5 if scaling is None else scaling,
        # The kernel counts the tokens before the token itself.
        window_size=(sliding_window - 1, 0) if sliding_window and windowed else (-1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return found[None, ..., :width], None


def _dtype(value: torch.Tensor) -> torch.dtype:
    """Return the precision of the products.

    Autocast does not cast the queries and keys, which the rotation leaves in float32 if the weights
    are float32. The kernel takes 16 bits alone.
    """
    device = value.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return value.dtype


def can_use_varlen(model: Any, dtype: torch.dtype) -> bool:
    """Return whether this GPU, this precision and the heads of this model suit the kernel.

    Args:
        model: The model, on any device, because a sharded one is not on the GPU yet.
        dtype: The precision of the matrix products.
    """
    if not torch.cuda.is_available() or torch.version.hip:
        return False
    new = torch.cuda.get_device_capability()[0] >= AMPERE
    return new and dtype in (torch.bfloat16, torch.float16) and suits_varlen(model)


def suits_varlen(model: Any) -> bool:
    """Return whether the heads of all layers of a model suit the kernel."""
    config = model.config.get_text_config()
    return (
        all(size <= LARGEST_HEAD and size % HEAD_UNIT == 0 for size in _get_head_sizes(config))
        and not getattr(config, "attention_dropout", 0.0)
        and bool(getattr(model, "_supports_flash_attn", False))
    )


def _get_head_sizes(config: Any) -> set[int]:
    """Return the sizes of the heads, which differ between the layers of some models."""
    layers = config.per_layer_config if getattr(config, "is_heterogeneous", False) else [config]
    return {
        getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads
        for layer in layers
    }


AttentionInterface.register(VARLEN, attend)
AttentionMaskInterface.register(VARLEN, mask_of_rows)
