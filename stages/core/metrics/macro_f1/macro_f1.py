"""Compute macro F1, the mean of the F1 scores of all classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.metrics.label_metric import LabelMetric


class MacroF1(LabelMetric):
    """Averages F1 = 2 TP / (2 TP + FP + FN) over the labels that occur in the references.

    It equals `f1_score(labels=<those>, average="macro", zero_division=0)` of sklearn. For a slice
    or a resample of the rows, only the labels that occur there count. The comparison ignores case
    and surrounding white space. An answer that is none of the labels lowers only the recall of the
    correct label.

    Options:
        pattern: See `LabelMetric`.
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
        return rows[:, ::3].sum(axis=1)  # 1 for a correct answer
