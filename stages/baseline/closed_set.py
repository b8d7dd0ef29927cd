"""Decide whether the targets are a closed set, so that answers can be constrained to them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.core.data.prompts import encode_target
from stages.core.data.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_TARGETS = 200
# The average that a closed set needs. If targets are seen only once, new rows bring new targets.
ROWS_A_TARGET = 2


def get_allowed(
    tokenizer: "PreTrainedTokenizerBase", train: Sequence[Record], max_new_tokens: int
) -> tuple[list[list[int]], str | None]:
    """Return the token ids of every training target if the targets are a closed set.

    Args:
        tokenizer: The tokenizer of the model.
        train: The training split.
        max_new_tokens: The limit of an answer.

    Returns:
        The token ids of each target with its end token, and None. If answers cannot be constrained,
        an empty list and the reason.
    """
    targets = {record.target: record for record in train}
    if len(targets) > MOST_TARGETS:
        return (
            [],
            f"the training rows have {len(targets):,} different targets, more than {MOST_TARGETS}",
        )
    if len(train) < ROWS_A_TARGET * len(targets):
        return (
            [],
            f"{len(train):,} training rows have {len(targets):,} different targets, "
            f"fewer than {ROWS_A_TARGET} rows per target",
        )
    allowed = [encode_target(tokenizer, record) for record in targets.values()]
    longest = max(map(len, allowed))
    if longest > max_new_tokens:
        return (
            [],
            f"the longest training target has {longest:,} tokens, "
            f"more than prompt.max_new_tokens={max_new_tokens}",
        )
    return allowed, None
