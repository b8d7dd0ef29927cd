"""Compute micro-averaged F1 over the sets of items that predictions and references list."""

import re
from collections.abc import Sequence
from typing import Any

from stages.core.data.unicode_text import fold
from stages.core.metrics.row_metric import RowMetric

_BRACKETED = re.compile(r"\[([^\[\]]*)\]|\(([^()]*)\)|\{([^{}]*)\}")
_COMMA = "[,،、，]"  # the commas of Latin, Arabic, Chinese and Japanese


class SetF1(RowMetric):
    """Computes F1 = 2 TP / (2 TP + FP + FN) over the items that all rows list.

    This is the micro-average of Manning et al. (2008, 13.6). The score is 1 if no row has or claims
    any item. A text is a list of items, with or without one pair of brackets around it. The
    comparison of items ignores case, white space and invisible characters. The order of items,
    repeated items and empty items do not count.

    Options:
        separator: The text between two items. The default is a comma, including the Arabic and Urdu
            ، and the Chinese and Japanese 、 and ，.
    """

    advice = "give the targets at least one item, or choose exact_match"

    def prepare(self, references: Sequence[str], separator: str | None = None) -> None:
        if separator == "":
            raise ValueError("separator must not be empty")
        self.separator = re.compile(re.escape(separator) if separator else _COMMA)

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        found = items(prediction, self.separator)
        wanted = items(reference, self.separator)
        return 2.0 * len(found & wanted), float(len(found) + len(wanted))


def items(text: str, separator: re.Pattern[str]) -> set[str]:
    """Get the items that a text lists, folded for comparison."""
    inside = _BRACKETED.fullmatch(text.strip())
    if inside and inside.lastindex:
        text = inside[inside.lastindex]
    return {fold(item) for item in separator.split(text)} - {""}
