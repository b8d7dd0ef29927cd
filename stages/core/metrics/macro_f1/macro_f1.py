"""Macro F1: the mean over the classes of each one's F1."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.metrics.label_metric import LabelMetric


class MacroF1(LabelMetric):
    """The mean of 2 TP / (2 TP + FP + FN) over the labels that occur in the references.

    As `f1_score(labels=<those>, average="macro", zero_division=0)` of sklearn. In a part or a resample of the rows, the
    labels that occur there count. Labels are compared without regard to case and to white space around them; an answer
    that is none of them takes from the recall of the right one alone.

    Options: as `LabelMetric`.
    """

    def prepare(self, references: Sequence[str], pattern: str | None = None) -> None:
        super().prepare(references, pattern)
        self.labels = sorted(self.targets)

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        found = self.label(prediction)
        wanted = self.label(reference)
        counts = (
            (name == found == wanted, name == found != wanted, name == wanted != found)
            for name in self.labels
        )
        return [float(count) for three in counts for count in three]

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        hits, extra, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
        occurs = hits + missed > 0
        scores = np.where(occurs, 2 * hits / np.maximum(2 * hits + extra + missed, 1), 0.0)
        return np.where(
            occurs.any(axis=-1), scores.sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1), 1.0
        )

    def row_values(self, rows: np.ndarray) -> np.ndarray:
        return rows[:, ::3].sum(axis=1)  # 1 where right
