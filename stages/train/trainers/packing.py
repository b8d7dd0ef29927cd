"""Rows of a micro-batch one after another, without padding, and attention that looks at each of
them alone.

Why: rows in random order teach more than rows sorted by length (on the default data a validation
    loss of 0.144 against 0.182 after as many steps), and padded to the longest of a batch they cost
    a third more tokens. On a GPU flash attention does the same; on a CPU nothing in transformers
    does."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from stages.train.examples import IGNORED

PER_ROW = "per_row"  # as the attention is known to transformers
# Up to this length two plain products are faster than the fused kernel of PyTorch, whose backward
# pass is slow on a CPU (7 ms against 15 ms a layer of the default model for 16 rows); for longer
# rows the scores would take much memory.
PLAIN_TOKENS = 512


def can_pack(model: Any) -> bool:
    """Whether each token of the model sees all before it and nothing else, by attention that can be
    exchanged."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    special = any(
        getattr(config, name, None) for name in ("sliding_window", "attn_logit_softcapping")
    )
    whole = (
        kinds == {"full_attention"} and not special and not getattr(model, "_is_stateful", False)
    )
    return whole and model._supports_attention_backend and model._supports_sdpa


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
    """Causal attention, row by row; without `row_lengths`, as where answers are generated, that of
    PyTorch.

    Args:
        module: the layer.
        query: of shape (1, heads, tokens, width of a head), the tokens of all rows.
        key: the same with the heads of keys.
        value: as the keys.
        attention_mask: keeps rows apart too; not needed with `row_lengths`.
        scaling: of the scores.
        dropout: of the attention's weights.
        row_lengths: of the rows, in tokens.
        others: what transformers gives to every attention.

    Returns:
        A tensor of shape (1, tokens, heads, width of a head), and no weights.
    """
    if row_lengths is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **others
        )
    lengths = list(row_lengths)
    groups = query.shape[1] // key.shape[1]
    whole = (query, repeat_kv(key, groups), repeat_kv(value, groups))
    rows = zip(*(tensor.split(lengths, dim=2) for tensor in whole), strict=True)
    scale = scaling or query.shape[-1] ** -0.5
    found = [_attend_row(q, k, v, scale, dropout) for q, k, v in rows]
    return torch.cat(found, dim=2).transpose(1, 2), None


def _attend_row(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, share: float
) -> torch.Tensor:
    length = query.shape[2]
    if length > PLAIN_TOKENS:
        return functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, dropout_p=share
        )
    later = _later_tokens(query.dtype)[:length, :length]
    weights = torch.baddbmm(later, query[0], key[0].transpose(1, 2), alpha=scale).softmax(-1)
    return (functional.dropout(weights, share) @ value[0])[None]


@cache
def _later_tokens(dtype: torch.dtype) -> torch.Tensor:
    """Minus infinity where a token would see a later one."""
    return torch.full((PLAIN_TOKENS, PLAIN_TOKENS), float("-inf"), dtype=dtype).triu(1)


def join(inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Padded rows as one row without padding: each input but the mask, of shape (1, tokens), and
    the `row_lengths`. What comes first in a row is no target: it would follow the row before."""
    seen = inputs["attention_mask"].bool()
    joined = {key: value[seen][None] for key, value in inputs.items() if key != "attention_mask"}
    joined["labels"][joined["position_ids"] == 0] = IGNORED
    return {**joined, "row_lengths": seen.sum(-1).tolist()}


def pack(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Indices of rows in as few parts of like size as hold at most `limit` tokens or one row each:
    the longest row that is left goes into the part that is emptiest."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    fewest = -(-sum(min(length, limit) for length in lengths) // limit)
    for count in range(fewest, len(lengths) + 1):
        parts: list[list[int]] = [[] for _ in range(count)]
        sizes = [0] * count
        for i in order:
            emptiest = sizes.index(min(sizes))
            parts[emptiest].append(i)
            sizes[emptiest] += lengths[i]
        if all(size <= limit or len(part) == 1 for size, part in zip(sizes, parts, strict=True)):
            break
    return parts


AttentionInterface.register(PER_ROW, attend)
AttentionMaskInterface.register(PER_ROW, sdpa_mask)
