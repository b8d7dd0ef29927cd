"""What metrics of classes have in common: how a text says its label."""

import re
from abc import ABC
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.row_metric import RowMetric

WHOLE = "(?s)(.*)"


class LabelMetric(RowMetric, ABC):
    """Labels are compared without regard to case and to white space around them.

    Options:
        pattern: a regular expression whose first group is the label, such as `\\[(.*?)\\]`; its first match counts. By
            default the whole text is the label.
    """

    def prepare(self, references: Sequence[str], pattern: str | None = None) -> None:
        """Take the pattern.

        Raises:
            ValueError: it has no group, or finds no label in a reference.
        """
        self.pattern = re.compile(pattern or WHOLE)
        if not self.pattern.groups:
            raise ValueError(f"pattern {pattern} has no group")
        if unlabelled := [text for text in references if read_label(text, self.pattern) is None]:
            raise ValueError(f"pattern {pattern} finds no label in the reference {unlabelled[0]!r}")

    def label(self, text: str) -> str | None:
        """The label of a text, ready to compare; None where it has none."""
        return read_label(text, self.pattern)

    @classmethod
    def confusion(
        cls, predictions: Sequence[str], references: Sequence[str], pattern: str | None = None
    ) -> dict[str, list[Any]]:
        """Per label of the references (`labels`, the rows of `matrix`) how often each label was the answer.

        The last column, which has no entry in `labels`, counts the other answers.
        """
        compiled = re.compile(pattern or WHOLE)
        pairs = [
            (read_label(r, compiled), read_label(p, compiled)) for p, r in zip(predictions, references, strict=True)
        ]
        labels = sorted({wanted for wanted, _ in pairs if wanted is not None})
        place: dict[str | None, int] = {name: index for index, name in enumerate(labels)}
        matrix = np.zeros((len(labels), len(labels) + 1), int)
        for wanted, found in pairs:
            if wanted in place:
                matrix[place[wanted], place.get(found, len(labels))] += 1
        return {"labels": labels, "matrix": matrix.tolist()}


def read_label(text: str, pattern: re.Pattern[str]) -> str | None:
    """The first group of the first match, ready to compare."""
    match = pattern.search(text)
    return match[1].casefold().strip() if match and match[1] is not None else None
