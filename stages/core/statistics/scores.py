"""Metrics over rows, represented by sums of what each row contributes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Aggregate = Callable[[np.ndarray], np.ndarray]


def ratio(sums: np.ndarray) -> np.ndarray:
    """Divide the first of two sums by the second, along the last axis; 0/0 is 1."""
    top = sums[..., 0]
    bottom = sums[..., 1]
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), 1.0)


@dataclass(frozen=True, eq=False)
class Scores:
    """A metric that is computed from sums of what each row contributes."""

    rows: np.ndarray
    """The contribution of each row to each sum, shape (rows, sums)."""
    aggregate: Aggregate = ratio
    """The function from sums of shape (..., sums) to the metric of shape (...)."""
    of_rows: Aggregate = ratio
    """The function from `rows` to a score for each row."""
    bounds: tuple[float, float] | None = (0.0, 1.0)
    """The least and the greatest possible value of the metric, or None if it is unbounded."""

    @property
    def value(self) -> float:
        """The metric over all rows."""
        return float(self.aggregate(self.rows.sum(axis=0)))

    @property
    def values(self) -> np.ndarray:
        """The score of each row, shape (rows,)."""
        return self.of_rows(self.rows)

    @property
    def binary(self) -> bool:
        """Whether each row is right or wrong and counts once."""
        plain = self.rows.shape[1] == 2 and self.aggregate(np.array([1.0, 2.0])) == 0.5  # noqa: PLR2004
        return bool(
            plain and (self.rows[:, 1] == 1).all() and np.isin(self.rows[:, 0], (0, 1)).all()
        )

    def at(self, indices: np.ndarray) -> np.ndarray:
        """Compute the metric of shape (...) over the rows at indices of shape (..., rows)."""
        return self.aggregate(self.rows[indices].sum(axis=-2))

    def of(self, rows: np.ndarray) -> "Scores":
        """Return the scores of some of the rows."""
        return Scores(self.rows[rows], self.aggregate, self.of_rows, self.bounds)
