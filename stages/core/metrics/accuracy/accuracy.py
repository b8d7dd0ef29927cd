"""Compute accuracy, the share of rows with the correct label."""

from collections.abc import Sequence
from typing import Any

from stages.core.metrics.label_metric import LabelMetric


class Accuracy(LabelMetric):
    """Scores 1 for a row whose predicted label is that of its reference, and 0 otherwise.

    The mean over the rows equals `accuracy_score` of sklearn. The comparison ignores case and
    surrounding white space. A prediction without a label is wrong.

    Options:
        pattern: See `LabelMetric`.
    """

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        return float(self.label(prediction) == self.label(reference)), 1.0
