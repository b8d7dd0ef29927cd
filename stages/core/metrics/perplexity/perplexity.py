"""Perplexity: how surprised an arm is by the tokens of the target."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.metrics.row_metric import RowMetric


class Perplexity(RowMetric):
    """exp of the mean negative log-likelihood of the target's tokens, its end token included, after the arm's prompt.

    The lower the better. Over several rows the mean is over all their tokens. It needs `evaluate.likelihood`; it says
    nothing about the answer that the arm gave, so that it cannot be the primary metric.
    """

    lower_is_better = True
    needs_likelihood = True
    bounds = None  # from 1 up without end
    best = None  # what it depends on is the model, not the answer

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        answer = record.get("prediction", {})
        if answer.get("target_nats") is None:
            raise ValueError(
                "the predictions hold no likelihood of the target: set evaluate.likelihood=true"
            )
        return answer["target_nats"], answer["target_tokens"]

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        return np.exp(super().aggregate(sums))
