"""Intervals and tests over rows. Everything random is seeded; rows are the unit of resampling."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stages.evaluate.scores import Scores, ratio

Statistic = Callable[..., np.ndarray]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its confidence interval."""

    value: float
    ci_low: float
    ci_high: float


def estimate(scores: Scores, confidence: float, resamples: int, seed: int) -> Estimate:
    """Percentile bootstrap over rows (Efron and Tibshirani, 1993, chapter 13)."""
    low, high = _bootstrap((scores.numerators, scores.denominators), ratio, confidence, resamples, seed)
    return Estimate(scores.value, low, high)


def difference(ours: Scores, theirs: Scores, confidence: float, resamples: int, seed: int) -> Estimate:
    """The same for `ours - theirs` on the same rows: each draw takes both arms' answers to a row together."""

    def statistic(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, axis: int = -1) -> np.ndarray:
        return ratio(a, b, axis) - ratio(c, d, axis)

    arrays = (ours.numerators, ours.denominators, theirs.numerators, theirs.denominators)
    low, high = _bootstrap(arrays, statistic, confidence, resamples, seed)
    return Estimate(ours.value - theirs.value, low, high)


def p_value(ours: Scores, theirs: Scores, resamples: int, seed: int) -> float:
    """Two-sided p-value of "both arms are equally good".

    McNemar's exact test where each row is right or wrong (McNemar, 1947); otherwise a paired permutation test, which
    swaps the two arms' answers to a row at random.
    """
    return _mcnemar(ours, theirs) if ours.binary and theirs.binary else _permutation(ours, theirs, resamples, seed)


def _mcnemar(ours: Scores, theirs: Scores) -> float:
    from statsmodels.stats.contingency_tables import mcnemar

    a, b = ours.numerators.astype(bool), theirs.numerators.astype(bool)
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    return float(mcnemar(table, exact=True).pvalue)


def _permutation(ours: Scores, theirs: Scores, resamples: int, seed: int) -> float:
    seen = abs(ours.value - theirs.value)
    draws, n = np.random.default_rng(seed), len(ours.numerators)
    extreme = 0
    for start in range(0, resamples, 100):  # a hundred at a time bounds the memory
        swap = draws.integers(0, 2, (min(100, resamples - start), n), dtype=bool)
        one = ratio(
            np.where(swap, theirs.numerators, ours.numerators), np.where(swap, theirs.denominators, ours.denominators)
        )
        two = ratio(
            np.where(swap, ours.numerators, theirs.numerators), np.where(swap, ours.denominators, theirs.denominators)
        )
        extreme += int((np.abs(one - two) >= seen - 1e-12).sum())
    return (extreme + 1) / (resamples + 1)  # the observed labelling is one of the permutations


def _bootstrap(
    arrays: tuple[np.ndarray, ...], statistic: Statistic, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    from scipy.stats import bootstrap

    result = bootstrap(
        arrays,
        statistic,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=confidence,
        n_resamples=resamples,
        batch=100,
        rng=seed,
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
