"""Compute perplexity, which measures how surprised an arm is by the target."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.metrics.row_metric import RowMetric


class Perplexity(RowMetric):
    """Computes the perplexity of the target and its end token after the arm's prompt.

    It is the exponential of the mean negative log-likelihood of these tokens. Over several rows the
    mean is taken over all their tokens. Lower is better. The metric needs
    `evaluate.target_loglikelihood`. It cannot be the primary metric, because it says nothing about
    the answer that the arm gave."""

    lower_is_better = True
    needs_likelihood = True
    bounds = None  # from 1 to infinity
    best = None  # the score depends on the model, not on the answer

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        answer = record.get("prediction", {})
        if answer.get("target_nats") is None:
            raise ValueError(
                "the predictions have no likelihood of the target; set evaluate.target_loglikelihood=true"
            )
        return answer["target_nats"], answer["target_tokens"]

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        return np.exp(super().aggregate(sums))
