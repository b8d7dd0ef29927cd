"""The base class of all metrics, which compute their value from sums over the rows.

Each row adds its part to a few sums, so every metric can be resampled, paired and sliced. To add
your own metric, create a folder `stages/core/metrics/<name>` with a module `<name>.py` that holds
one subclass, and add its name to `evaluate.metrics`.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from stages.core.metrics.library import evaluate
from stages.core.statistics.scores import ratio


class RowMetric(evaluate.Metric, ABC):
    """A metric of the `evaluate` library that is computed row by row."""

    lower_is_better = False
    needs_likelihood = False
    """Whether the metric needs the target's likelihood, which an arm without a model lacks."""
    bounds: tuple[float, float] | None = (0.0, 1.0)
    """The lowest and highest possible value of the metric; None if one of them is infinite."""
    best: float | None = 1.0
    """The score of answers that equal their targets.

    Set it to None if that score depends on a model or equal answers are not the aim. If it is a
    number, `stages.core.metrics.metric_check` checks it before anything is scored.
    """
    advice = "choose another metric"
    """What the user should do if the metric fails `stages.core.metrics.metric_check`.

    It completes the sentence "To fix this, …".
    """

    @abstractmethod
    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        """Compute what a row adds to each sum, with the same number of values for every row.

        By default there are two sums, the numerator and the denominator of a ratio.

        Args:
            prediction: The answer of the model.
            reference: The target.
            record: The whole row (`messages`, `meta`, …), for metrics that need the question. Its
                key `prediction` holds the arm's whole answer (tokens, seconds, …). It is empty if
                the module is used directly through the `evaluate` library.
        """

    def contribute_all(
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        records: Sequence[dict[str, Any]],
    ) -> list[Sequence[float]]:
        """Compute what each row adds.

        Override this if the metric works better on all rows at once.
        """
        return [self.contribute(*row) for row in zip(predictions, references, records, strict=True)]

    def well_formed(self, prediction: str) -> bool:
        """Check whether an answer, right or wrong, has the form of a target.

        A program could use such an answer as it is. `prepare` has already seen the targets. By
        default every answer that is not empty has the form.
        """
        return bool(prediction.strip())

    def read_leniently(self, predictions: Sequence[str]) -> list[str] | None:
        """Bring the content of each answer into the form of a target, for a lenient score.

        `prepare` has already seen the targets. An answer in which nothing is found stays as it is.

        Returns:
            One text for each answer. The default is None, which means that the metric has no
            lenient reading.
        """
        return None

    def may_become_right(self, prediction: str, reference: str) -> bool:
        """Check whether an answer that the token limit ended could have become right.

        `prepare` has already seen the targets. The default is that every answer could. Override it
        only with a check that never rules out an answer that could.
        """
        return True

    def metadata(self) -> dict[str, Any]:
        """Describe the metric for the report, after it has scored."""
        first = inspect.cleandoc(self.__doc__ or "").partition("\n\n")[0]
        return {"description": " ".join(first.split()), "lower_is_better": self.lower_is_better}

    def prepare(self, *references: Any, **options: Any) -> None:
        """Take the list of all references and the options of `evaluate.options.<name>`."""
        if options:
            raise ValueError(f"{self.name} takes no options, got {', '.join(options)}")

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        """Compute the metric from sums over rows.

        By default it is the first sum divided by the second, or 1 if both are 0.

        Args:
            sums: Sums of shape (..., k).

        Returns:
            The metric, of shape (...).
        """
        return ratio(sums)

    def row_values(self, rows: np.ndarray) -> np.ndarray:
        """Score each row alone, given the contributions of all rows, of shape (rows, k)."""
        return self.aggregate(rows)

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features(
            {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
        )
        text = self.__doc__ or ""
        return evaluate.MetricInfo(
            description=text, citation="", inputs_description=text, features=features
        )

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        records: Sequence[dict[str, Any]] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        self.prepare(references, **options)
        given = records or [{}] * len(predictions)
        rows = [list(row) for row in self.contribute_all(predictions, references, given)]
        value = float(self.aggregate(np.asarray(rows, float).sum(axis=0)))
        return {self.name: value, "rows": rows}
