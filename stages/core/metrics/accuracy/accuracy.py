"""Accuracy: the share of rows whose label is right."""

from collections.abc import Sequence
from typing import Any

from stages.core.metrics.label_metric import LabelMetric


class Accuracy(LabelMetric):
    """1 for a row whose predicted label equals the label of its reference, 0 otherwise; as `accuracy_score` of sklearn.

    Labels are compared without regard to case and to white space around them. A prediction without a label is wrong.

    Options: as `LabelMetric`.
    """

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        return float(self.label(prediction) == self.label(reference)), 1.0
