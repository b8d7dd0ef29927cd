"""Intervals and tests over rows. Everything random is seeded; rows are the unit of resampling."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from stages.core.metrics import Scores

Interval = Literal["percentile", "BCa"]
OfRows = Callable[[np.ndarray], np.ndarray]
"""From indices of rows of shape (..., rows) to a number for each draw."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its confidence interval."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made."""

    confidence: float
    resamples: int
    seed: int
    interval: Interval = "percentile"

    @property
    def one_sided(self) -> "Resampling":
        """The interval each of whose ends is a bound with this confidence."""
        return replace(self, confidence=2 * self.confidence - 1)


def estimate(scores: Scores, how: Resampling) -> Estimate:
    """Bootstrap over rows: percentile, or BCa (Efron and Tibshirani, 1993, chapters 13 and 14)."""
    return bootstrap(scores.at, len(scores.rows), how)


def difference(ours: Scores, theirs: Scores, how: Resampling) -> Estimate:
    """The same for `ours - theirs` on the same rows: each draw takes both arms' answers to a row together."""
    return bootstrap(lambda rows: ours.at(rows) - theirs.at(rows), len(ours.rows), how)


def bootstrap(statistic: OfRows, n: int, how: Resampling) -> Estimate:
    """The interval of any statistic of `n` rows."""
    from scipy import stats

    value = float(statistic(np.arange(n)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows that are all alike: no spread, and the interval is the value
        found = stats.bootstrap(
            (np.arange(n),),
            lambda rows, axis=-1: statistic(rows),
            vectorized=True,
            method=how.interval,
            confidence_level=how.confidence,
            n_resamples=how.resamples,
            batch=100,
            rng=how.seed,
        ).confidence_interval
    low, high = (value if np.isnan(end) else float(end) for end in found)
    return Estimate(value, low, high)


def p_value(ours: Scores, theirs: Scores, resamples: int, seed: int) -> float:
    """Two-sided p-value of "both arms are equally good".

    McNemar's exact test where each row is right or wrong (McNemar, 1947); otherwise a paired permutation test, which
    swaps the two arms' answers to a row at random.
    """
    return _mcnemar(ours, theirs) if ours.binary and theirs.binary else _permutation(ours, theirs, resamples, seed)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm, 1979)."""
    from statsmodels.stats.multitest import multipletests

    return multipletests(p_values, method="holm")[1].tolist() if p_values else []


def rows_needed(found: Estimate, margin: float, rows: int, confidence: float, power: float = 0.8) -> int | None:
    """Test rows with which a one-sided bound would leave the margin out, if the difference stays as it was measured.

    Args:
        found: the difference with its one-sided bounds.
        margin: to be left out.
        rows: that were measured.
        confidence: of a bound.
        power: see below.

    The distance of a bound falls with the root of the rows; `power` is the chance that it then suffices (0.8 is the
    convention of Cohen, 1988). None where the difference is the margin itself: no number of rows would tell.
    """
    from scipy.stats import norm

    gap = found.value - margin
    half = found.value - found.ci_low if gap > 0 else found.ci_high - found.value
    if gap == 0 or half <= 0:
        return None
    z = norm.ppf(confidence)
    return int(np.ceil(rows * (half / abs(gap)) ** 2 * ((z + norm.ppf(power)) / z) ** 2))


def _mcnemar(ours: Scores, theirs: Scores) -> float:
    from statsmodels.stats.contingency_tables import mcnemar

    a, b = ours.rows[:, 0].astype(bool), theirs.rows[:, 0].astype(bool)
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    return float(mcnemar(table, exact=True).pvalue)


def _permutation(ours: Scores, theirs: Scores, resamples: int, seed: int) -> float:
    from scipy.stats import permutation_test

    both, n = Scores(np.concatenate([ours.rows, theirs.rows]), ours.aggregate), len(ours.rows)
    result = permutation_test(
        (np.arange(n), np.arange(n, 2 * n)),
        lambda one, two, axis=-1: both.at(one) - both.at(two),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=100,
        rng=seed,
    )
    return float(result.pvalue)
