"""A metric over rows, as the sums of what each row adds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Aggregate = Callable[[np.ndarray], np.ndarray]


def ratio(sums: np.ndarray) -> np.ndarray:
    """The first of two sums over the second, along the last axis; 0/0 is 1."""
    top = sums[..., 0]
    bottom = sums[..., 1]
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), 1.0)


@dataclass(frozen=True, eq=False)
class Scores:
    """A metric over rows, which comes out of the sums of what each row adds."""

    rows: np.ndarray
    """Shape (rows, sums)."""
    aggregate: Aggregate = ratio
    """From sums of shape (..., sums) to the metric, shape (...)."""
    of_rows: Aggregate = ratio
    """A score for each row, from `rows`."""
    bounds: tuple[float, float] | None = (0.0, 1.0)
    """The least and the greatest value that the metric can have; null where it has no such ends."""

    @property
    def value(self) -> float:
        """The metric over all rows."""
        return float(self.aggregate(self.rows.sum(axis=0)))

    @property
    def values(self) -> np.ndarray:
        """Each row's own score, shape (rows,)."""
        return self.of_rows(self.rows)

    @property
    def binary(self) -> bool:
        """Whether each row is right or wrong and counts once."""
        plain = self.rows.shape[1] == 2 and self.aggregate(np.array([1.0, 2.0])) == 0.5  # noqa: PLR2004
        return bool(
            plain and (self.rows[:, 1] == 1).all() and np.isin(self.rows[:, 0], (0, 1)).all()
        )

    def at(self, indices: np.ndarray) -> np.ndarray:
        """The metric over the rows at indices of shape (..., rows), shape (...)."""
        return self.aggregate(self.rows[indices].sum(axis=-2))

    def of(self, rows: np.ndarray) -> "Scores":
        """The scores of some of the rows."""
        return Scores(self.rows[rows], self.aggregate, self.of_rows, self.bounds)
