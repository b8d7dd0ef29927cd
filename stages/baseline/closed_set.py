"""Whether the targets are a closed set, so that an answer can be held to one of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.core.data.prompts import encode_target
from stages.core.data.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_TARGETS = 200
ROWS_A_TARGET = 2  # on average: of targets that are seen once, a new row would bring new ones


def get_allowed(
    tokenizer: "PreTrainedTokenizerBase", train: Sequence[Record], max_new_tokens: int
) -> tuple[list[list[int]], str | None]:
    """The token ids of every training target, its end token included; or why answers cannot be held to them.

    Args:
        tokenizer: the model's.
        train: the training split.
        max_new_tokens: of an answer.
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
            f"{len(train):,} training rows have {len(targets):,} different targets, too few rows a target",
        )
    allowed = [encode_target(tokenizer, record) for record in targets.values()]
    longest = max(map(len, allowed))
    if longest > max_new_tokens:
        return (
            [],
            f"a training target has {longest:,} tokens, more than prompt.max_new_tokens={max_new_tokens}",
        )
    return allowed, None
