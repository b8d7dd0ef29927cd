"""What the metrics of this folder have in common: each row adds something to a few sums, and the sums give the metric.

So every metric can be resampled, paired and sliced. A team's own metric is a folder `stages/core/metrics/<name>`
with a module `<name>.py` that holds one subclass, and its name in `evaluate.metrics`.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from stages.core.statistics.scores import ratio


class RowMetric(evaluate.Metric, ABC):
    """A metric of the `evaluate` library, computed row by row."""

    lower_is_better = False
    needs_likelihood = False
    """Whether it reads how likely a model finds the target, which an arm without a model cannot tell."""
    bounds: tuple[float, float] | None = (0.0, 1.0)
    """The least and the most that the metric can be; None where one of them is infinite."""
    best: float | None = 1.0
    """What answers equal to their targets score; None where that depends on a model or is not the aim.

    Where it is a number, `stages.core.metrics.metric_check` holds the metric to it before anything is scored.
    """
    advice = "choose another metric"
    """What to do where the metric does not score perfect answers so, or empty ones as well."""

    @abstractmethod
    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        """What a row adds to each sum; as many numbers for every row. By default the sums are a ratio's two parts.

        Args:
            prediction: the answer of the model.
            reference: the target.
            record: the whole row (`messages`, `meta`, …), for metrics that need the question, and as `prediction` the
                arm's whole answer (tokens, seconds, …); empty in plain use.
        """

    def contribute_all(
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        records: Sequence[dict[str, Any]],
    ) -> list[Sequence[float]]:
        """What each row adds; for a metric that is better off with all rows at once."""
        return [self.contribute(*row) for row in zip(predictions, references, records, strict=True)]

    def well_formed(self, prediction: str) -> bool:
        """Whether an answer, right or wrong, has the form of a target, so that a program could use it as it is.

        `prepare` has seen the targets before. By default every answer but an empty one has.
        """
        return bool(prediction.strip())

    def read_leniently(self, predictions: Sequence[str]) -> list[str] | None:
        """Each answer as a text that has the form of a target, for a score that forgives the form.

        `prepare` has seen the targets before. An answer in which nothing is found stays as it is.

        Returns:
            As many texts; None, by default, where the metric knows no such reading.
        """
        return None

    def facts(self) -> dict[str, Any]:
        """What the report says of the metric after it has scored."""
        first = inspect.cleandoc(self.__doc__ or "").partition("\n\n")[0]
        return {"description": " ".join(first.split()), "lower_is_better": self.lower_is_better}

    def prepare(self, *references: Any, **options: Any) -> None:
        """Take the options of `evaluate.options.<name>`, after the list of all references."""
        if options:
            raise ValueError(f"{self.name} takes no options, got {', '.join(options)}")

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        """The metric out of sums of shape (..., k), shape (...): the first over the second, 1 where both are 0."""
        return ratio(sums)

    def row_values(self, rows: np.ndarray) -> np.ndarray:
        """A score for each row, from contributions of shape (rows, k): what the row alone would give."""
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
