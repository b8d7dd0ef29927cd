"""Macro F1: the mean over the classes of each one's F1."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.row_metric import RowMetric


class MacroF1(RowMetric):
    """The mean of 2 TP / (2 TP + FP + FN) over the labels that occur in the references.

    As `f1_score(labels=<those>, average="macro", zero_division=0)` of sklearn. In a part or a resample of the rows, the
    labels that occur there count. Labels are compared without regard to case and to white space around them; an answer
    that is none of them takes from the recall of the right one alone.

    Options:
        pattern: a regular expression whose first group is the label, such as `\\[(.*?)\\]`; its first match counts. By
            default the whole text is the label.
    """

    def prepare(self, references: Sequence[str], pattern: str | None = None) -> None:
        self.pattern = re.compile(pattern or "(?s)(.*)")
        if not self.pattern.groups:
            raise ValueError(f"pattern {pattern} has no group")
        found = {text: label(text, self.pattern) for text in references}
        if unlabelled := [text for text, name in found.items() if name is None]:
            raise ValueError(f"pattern {pattern} finds no label in the reference {unlabelled[0]!r}")
        self.labels = sorted(name for name in set(found.values()) if name is not None)

    def contribute(self, prediction: str, reference: str, record: dict[str, Any]) -> Sequence[float]:
        found, wanted = label(prediction, self.pattern), label(reference, self.pattern)
        counts = ((name == found == wanted, name == found != wanted, name == wanted != found) for name in self.labels)
        return [float(count) for three in counts for count in three]

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        hits, extra, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
        occurs = hits + missed > 0
        scores = np.where(occurs, 2 * hits / np.maximum(2 * hits + extra + missed, 1), 0.0)
        return np.where(occurs.any(axis=-1), scores.sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1), 1.0)

    def row_values(self, rows: np.ndarray) -> np.ndarray:
        return rows[:, ::3].sum(axis=1)  # 1 where right

    @classmethod
    def confusion(
        cls, predictions: Sequence[str], references: Sequence[str], pattern: str | None = None
    ) -> dict[str, list[Any]]:
        """Per label of the references (`labels`, the rows of `matrix`) how often each label was the answer.

        The last column, which has no entry in `labels`, counts the other answers.
        """
        compiled = re.compile(pattern or "(?s)(.*)")
        pairs = [(label(r, compiled), label(p, compiled)) for p, r in zip(predictions, references, strict=True)]
        labels = sorted({wanted for wanted, _ in pairs if wanted is not None})
        place: dict[str | None, int] = {name: index for index, name in enumerate(labels)}
        matrix = np.zeros((len(labels), len(labels) + 1), int)
        for wanted, found in pairs:
            if wanted in place:
                matrix[place[wanted], place.get(found, len(labels))] += 1
        return {"labels": labels, "matrix": matrix.tolist()}


def label(text: str, pattern: re.Pattern[str]) -> str | None:
    """The first group of the first match, ready to compare."""
    match = pattern.search(text)
    return match[1].casefold().strip() if match and match[1] is not None else None
