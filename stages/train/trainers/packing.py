"""Pack the rows of a micro-batch without padding.

Rows in random order teach more than rows sorted by length. On the default data the validation loss
was 0.144 against 0.182 after the same number of steps. Padded to the longest row of a batch they
would cost a third more tokens. `varlen_attention` attends within the packed rows on a GPU and
`row_attention` on a CPU.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from heapq import heapreplace
from itertools import accumulate
from typing import Any

import torch
from transformers.masking_utils import sdpa_mask

from stages.train.examples import IGNORED

_JOINED = ContextVar("_JOINED", default=False)


@contextmanager
def joined_rows() -> Iterator[None]:
    """Tell the masks and attentions in this block that all rows are joined into one."""
    token = _JOINED.set(True)
    try:
        yield
    finally:
        _JOINED.reset(token)


def mask_of_rows(*args: Any, **others: Any) -> torch.Tensor | None:
    """Make the mask of padded rows, and none for joined rows, whose attention needs none.

    transformers would separate joined rows by a mask, which takes 4 GB for 65,536 tokens.
    """
    return None if _JOINED.get() else sdpa_mask(*args, **others)


def refuse_joined_rows(module: Any) -> None:
    """Stop if an attention got joined rows without their lengths and would mix them.

    Raises:
        RuntimeError: The model does not pass the lengths to its attention.
    """
    if _JOINED.get():
        raise RuntimeError(
            f"{type(module).__name__} passes no row lengths to its attention; "
            "set train.attention=sdpa"
        )


def can_pack(model: Any, windows: bool = False) -> bool:
    """Return whether rows can be packed for this model.

    Each token must attend to all tokens before it, and the attention must be replaceable.

    Args:
        model: The model.
        windows: Whether layers whose tokens attend only to the last tokens before them will do too.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    known = {"full_attention"} | ({"sliding_attention"} if windows else set())
    special = getattr(config, "attn_logit_softcapping", None) or (
        getattr(config, "sliding_window", None) and not windows
    )
    whole = kinds <= known and not special and not getattr(model, "_is_stateful", False)
    return whole and model._supports_attention_backend and model._supports_sdpa


def join(inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Pack padded rows into one row without padding.

    The first token of a row is not a target, because it would be predicted from the row before it.

    Returns:
        All inputs except the mask, of shape (1, tokens), and `row_lengths`.
    """
    seen = inputs["attention_mask"].bool()
    joined = {key: value[seen][None] for key, value in inputs.items() if key != "attention_mask"}
    joined["labels"][joined["position_ids"] == 0] = IGNORED
    return {**joined, "row_lengths": seen.sum(-1).tolist()}


def get_offsets(lengths: Sequence[int], device: torch.device) -> dict[str, Any]:
    """Return the offsets of joined rows in the keywords of transformers' flash attention."""
    offsets = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    longest = max(lengths)
    return {
        "cu_seq_lens_q": offsets,
        "cu_seq_lens_k": offsets,
        "max_length_q": longest,
        "max_length_k": longest,
    }


class RowNoise:
    """Noise on the embeddings of packed rows (Jain et al., "NEFTune", 2023).

    The noise of a row is uniform, up to `alpha` divided by the root of its tokens times the width.
    transformers takes all packed rows for one, and its noise would be too weak.

    Args:
        alpha: `neftune_noise_alpha`. None or 0 adds no noise.
    """

    def __init__(self, alpha: float | None) -> None:
        self.alpha = alpha
        self.row_lengths: list[int] = []
        """The number of tokens of each row of the next forward pass."""

    def __call__(self, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """Add noise to an output of shape (1, tokens, width), as a forward hook in training."""
        if not module.training or not self.alpha:
            return output
        lengths = torch.tensor(self.row_lengths, device=output.device)
        largest = self.alpha / (lengths * output.shape[-1]).sqrt()
        by_token = largest.repeat_interleave(lengths)[None, :, None].to(output.dtype)
        return output + by_token * torch.zeros_like(output).uniform_(-1, 1)


def pack(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Divide rows into as few parts of similar size as possible.

    Starting with the longest row, each row goes into the part that has the fewest tokens so far.

    Args:
        lengths: The lengths of the rows in tokens.
        limit: The maximum number of tokens in a part. A longer row gets a part of its own.

    Returns:
        The indices of the rows in each part.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    fewest = -(-sum(min(length, limit) for length in lengths) // limit)
    for count in range(fewest, len(lengths) + 1):
        parts: list[list[int]] = [[] for _ in range(count)]
        sizes = [(0, part) for part in range(count)]  # a heap
        for i in order:
            size, emptiest = sizes[0]
            parts[emptiest].append(i)
            heapreplace(sizes, (size + lengths[i], emptiest))
        if all(size <= limit or len(parts[part]) == 1 for size, part in sizes):
            break
    return parts
