"""Attention on a CPU that attends within each of the rows that `packing` joined into one.

Rows of similar length are padded to one length and share a matrix product. transformers knows this
attention as `PER_ROW` once this module is imported.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from stages.train.trainers.packing import mask_of_rows, refuse_joined_rows

PER_ROW = "per_row"  # the name under which transformers knows this attention
# Up to this length two plain matrix products are faster than PyTorch's fused kernel, whose backward
# pass is slow on a CPU (7 ms against 15 ms per layer of the default model for 16 rows). For longer
# rows the scores would take too much memory.
PLAIN_TOKENS = 512
# The longest row of a group has at most this many times the length of any other row in it. The
# scores of a padded row therefore take at most 4 times the memory of the row alone. One product for
# 16 rows of 30 tokens takes a fourth of the time of 16 products.
PADDED = 2


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    row_lengths: Sequence[int] | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute causal attention within each row.

    Without `row_lengths`, as in generation, this is PyTorch's attention.

    Args:
        module: The attention layer.
        query: The queries of shape (1, heads, tokens, head size), one row after another.
        key: The keys of shape (1, key heads, tokens, head size). The number of heads is a multiple
            of the number of key heads.
        value: The values, of the shape of the keys, perhaps with another head size.
        attention_mask: The mask, which also separates rows. It is not needed with `row_lengths`.
        scaling: The factor of the scores. None means 1 / sqrt(head size).
        dropout: The dropout probability of the attention weights.
        row_lengths: The number of tokens of each row.
        others: The other arguments that transformers passes to every attention.

    Returns:
        The output of shape (1, tokens, heads, head size), and None instead of attention weights.
    """
    if row_lengths is None:
        refuse_joined_rows(module)
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **others
        )
    groups, places, tokens = _arrange(tuple(row_lengths), query.device)
    scale = scaling or query.shape[-1] ** -0.5
    padded = [_Pad.apply(x[0].transpose(0, 1), places, tokens) for x in (query, key, value)]
    parts = zip(*(x.split([rows * length for rows, length in groups]) for x in padded), strict=True)
    found = [
        _attend_group(part, *group, scale, dropout)
        for part, group in zip(parts, groups, strict=True)
    ]
    return _Unpad.apply(torch.cat(found), tokens)[None], None


def _attend_group(
    tensors: Sequence[torch.Tensor],
    rows: int,
    length: int,
    scale: float,
    dropout: float,
) -> torch.Tensor:
    """Compute causal attention within rows of one length.

    The query, key and value have the shape (rows * length, heads, head size). The head size of the
    value may be another one.
    """
    q, k, v = (x.view(rows, length, *x.shape[1:]).transpose(1, 2) for x in tensors)
    times = q.shape[1] // k.shape[1]
    if length > PLAIN_TOKENS:
        found = functional.scaled_dot_product_attention(
            q, repeat_kv(k, times), repeat_kv(v, times), None, dropout, is_causal=True, scale=scale
        )
    else:  # one product takes the queries of all heads that share their keys
        shared = rows * k.shape[1]
        flat = q.reshape(shared, times * length, -1)
        later = _later_tokens(q.dtype)[:length, :length].repeat(times, 1)
        keys = k.reshape(shared, length, -1).transpose(1, 2)
        weights = torch.baddbmm(later, flat, keys, alpha=scale).softmax(-1)
        mixed = functional.dropout(weights, dropout) @ v.reshape(shared, length, -1)
        found = mixed.view(*q.shape[:-1], -1)
    return found.transpose(1, 2).flatten(0, 1)


# All layers use the same arrangement, and so does the backward pass if it recomputes them.
@lru_cache(maxsize=2)
def _arrange(
    lengths: tuple[int, ...], device: torch.device
) -> tuple[list[tuple[int, int]], torch.Tensor, torch.Tensor]:
    """Group rows of similar length and pad each row to the longest row of its group.

    The padding is at the end of a row, where no token of the row attends to it.

    Returns:
        Three values. The first is the number of rows and the padded length of each group. The
        second, of shape (places,), is the index of the token at each place of the groups. Padding
        repeats the first token of its row. The third, of shape (tokens,), is the place of each
        token.
    """
    starts = [0, *accumulate(lengths)]
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[groups[-1][0]] if groups else 0
        if not groups or longest > min(PADDED * lengths[i], PLAIN_TOKENS):
            groups.append([])
        groups[-1].append(i)
    places: list[int] = []
    tokens = [0] * starts[-1]
    for group in groups:
        for i in group:
            own = range(starts[i], starts[i + 1])
            for token in own:
                tokens[token] = len(places) + token - own.start
            places += [*own, *[own.start] * (lengths[group[0]] - len(own))]
    sizes = [(len(group), lengths[group[0]]) for group in groups]
    return sizes, torch.tensor(places, device=device), torch.tensor(tokens, device=device)


class _Pad(torch.autograd.Function):
    """Copy tokens to their places in the padded groups.

    The backward pass of PyTorch's own indexing sums gradients, which is slow on a CPU. No sum is
    needed here, because the gradient of padding is 0.
    """

    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, places: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Turn a tensor of shape (tokens, …) into one of shape (places, …)."""
        ctx.save_for_backward(tokens)
        return tensor.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """Return the gradient of each token, which is the gradient at its place."""
        return gradient.index_select(0, *ctx.saved_tensors), None, None


class _Unpad(torch.autograd.Function):
    """Copy tokens from their places in the padded groups back into packed rows."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Turn a tensor of shape (places, …) into one of shape (tokens, …)."""
        ctx.save_for_backward(tokens)
        ctx.places = len(tensor)
        return tensor.index_select(0, tokens)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """Return the gradient of each place, which is 0 for padding."""
        (tokens,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.places, *gradient.shape[1:]).index_copy_(
            0, tokens, gradient
        ), None


@cache
def _later_tokens(dtype: torch.dtype) -> torch.Tensor:
    """Return a mask with minus infinity where a token would attend to a later token."""
    return torch.full((PLAIN_TOKENS, PLAIN_TOKENS), float("-inf"), dtype=dtype).triu(1)


AttentionInterface.register(PER_ROW, attend)
AttentionMaskInterface.register(PER_ROW, mask_of_rows)
