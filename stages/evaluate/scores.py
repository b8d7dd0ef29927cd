"""What each row adds to each metric, through local modules of the `evaluate` library."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.core.errors import UserError

METRICS = Path(__file__).parent / "metrics"


@dataclass(frozen=True, slots=True)
class Scores:
    """A metric over rows: the ratio of the sums of two arrays of shape (rows,)."""

    numerators: np.ndarray
    denominators: np.ndarray

    @property
    def value(self) -> float:
        """The metric over all rows; 1 where there is nothing to find and nothing was claimed."""
        return float(ratio(self.numerators, self.denominators))

    @property
    def binary(self) -> bool:
        """Whether each row is right or wrong and counts once."""
        return bool((self.denominators == 1).all() and np.isin(self.numerators, (0, 1)).all())


def ratio(numerators: np.ndarray, denominators: np.ndarray, axis: int = -1) -> np.ndarray:
    """Sum of numerators by sum of denominators along `axis`; 0/0 is 1."""
    top, bottom = numerators.sum(axis=axis), denominators.sum(axis=axis)
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), 1.0)


class Metrics:
    """The chosen metrics, each a folder under `stages/evaluate/metrics` (a team's own is one more folder)."""

    def __init__(self, names: Sequence[str]) -> None:
        """Load the modules.

        Raises:
            UserError: there is no folder of that name.
        """
        import evaluate

        known = sorted(path.name for path in METRICS.iterdir() if (path / f"{path.name}.py").exists())
        for name in names:
            if name not in known:
                raise UserError(f"evaluate.metrics: there is no metric {name!r}; there are {', '.join(known)}")
        self._modules = {name: evaluate.load(str(METRICS / name / f"{name}.py")) for name in names}

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Scores]:
        """Every metric over paired texts."""
        found = {}
        for name, module in self._modules.items():
            result = module.compute(predictions=list(predictions), references=list(references))
            found[name] = Scores(np.asarray(result["numerators"], float), np.asarray(result["denominators"], float))
        return found
