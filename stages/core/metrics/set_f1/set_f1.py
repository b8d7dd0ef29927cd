"""Set F1: micro-averaged over the sets of items that predictions and references list."""

import re
from collections.abc import Sequence
from typing import Any

from stages.core.data.unicode_text import fold
from stages.core.metrics.row_metric import RowMetric

_BRACKETED = re.compile(r"\[([^\[\]]*)\]|\(([^()]*)\)|\{([^{}]*)\}")
_COMMA = "[,،、，]"  # of Latin, Arabic, Chinese and Japanese


class SetF1(RowMetric):
    """F1 = 2 TP / (2 TP + FP + FN) over all rows (Manning et al., 2008, 13.6); 1 when no row has or claims any item.

    A text is a list of items, with or without one pair of brackets around it. Items are compared without regard to
    case, white space and invisible characters; their order does not count, nor how often one is listed, nor empty ones.

    Options:
        separator: what stands between two items; by default a comma, also ، of Arabic and Urdu, 、 and ， of Chinese
            and Japanese.
    """

    advice = "give the targets at least one item, or choose exact_match"

    def prepare(self, references: Sequence[str], separator: str | None = None) -> None:
        if separator == "":
            raise ValueError("separator is empty")
        self.separator = re.compile(re.escape(separator) if separator else _COMMA)

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        found = items(prediction, self.separator)
        wanted = items(reference, self.separator)
        return 2.0 * len(found & wanted), float(len(found) + len(wanted))


def items(text: str, separator: re.Pattern[str]) -> set[str]:
    """The items that `text` lists, folded."""
    inside = _BRACKETED.fullmatch(text.strip())
    if inside and inside.lastindex:
        text = inside[inside.lastindex]
    return {fold(item) for item in separator.split(text)} - {""}
