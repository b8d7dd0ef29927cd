"""Accuracy: the share of rows whose label is right."""

import re
from collections.abc import Sequence
from typing import Any

from stages.core.row_metric import RowMetric


class Accuracy(RowMetric):
    """1 for a row whose predicted label equals the label of its reference, 0 otherwise; as `accuracy_score` of sklearn.

    Labels are compared without regard to case and to white space around them. A prediction without a label is wrong.

    Options:
        pattern: a regular expression whose first group is the label, such as `\\[(.*?)\\]`; its first match counts. By
            default the whole text is the label.
    """

    def prepare(self, references: Sequence[str], pattern: str | None = None) -> None:
        self.pattern = re.compile(pattern or "(?s)(.*)")
        if not self.pattern.groups:
            raise ValueError(f"pattern {pattern} has no group")
        if unlabelled := [text for text in references if label(text, self.pattern) is None]:
            raise ValueError(f"pattern {pattern} finds no label in the reference {unlabelled[0]!r}")

    def contribute(self, prediction: str, reference: str, record: dict[str, Any]) -> Sequence[float]:
        return float(label(prediction, self.pattern) == label(reference, self.pattern)), 1.0


def label(text: str, pattern: re.Pattern[str]) -> str | None:
    """The first group of the first match, ready to compare."""
    match = pattern.search(text)
    return match[1].casefold().strip() if match and match[1] is not None else None
