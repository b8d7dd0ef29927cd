"""Confidence intervals and bounds of metrics and paired differences, for rows in groups or not.

Everything here is a formula without random draws, so the numbers are the same on every machine. A
metric is a function of sums over rows (`stages.core.statistics.scores.Scores`). Its variance
therefore comes from leaving out one group of rows at a time (the delete-one jackknife; Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11). Two imagined rows, one win and
one loss, are added to every difference. For rows that are right or wrong this gives the interval of
Bonett and Price ("Adjusted Wald confidence interval for a difference of binomial proportions based
on paired data", 2012). It keeps its level in small samples and near 0 and 1, and its width is never
zero. `benchmarks.verdict` measures the error rates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from stages.core.statistics.scores import Scores

Runs = Scores | Sequence[Scores]
"""The scores of one run of an arm, or of several runs, such as one for each training seed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its two-sided confidence interval."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, slots=True)
class Spread:
    """The distribution of a measured number, from which bounds of any confidence follow."""

    value: float
    """The measured number."""
    centre: float
    """The middle of its bounds. The imagined rows move it towards zero for a difference, and
    towards the middle of the range for a metric alone."""
    standard_error: float
    degrees: float
    """The degrees of freedom of Student's t, or 0 if there are too few groups for any bound."""

    def low(self, alpha: float) -> float:
        """Return the one-sided lower bound that is wrong with probability `alpha`."""
        return self.centre - self._reach(alpha)

    def high(self, alpha: float) -> float:
        """Return the one-sided upper bound that is wrong with probability `alpha`."""
        return self.centre + self._reach(alpha)

    def interval(self, confidence: float) -> Estimate:
        """Return the two-sided interval, which always contains the measured value."""
        alpha = (1 - confidence) / 2
        return Estimate(
            self.value, min(self.low(alpha), self.value), max(self.high(alpha), self.value)
        )

    def _reach(self, alpha: float) -> float:
        from scipy.special import stdtrit

        if self.degrees <= 0:
            return float("inf")
        return float(stdtrit(self.degrees, 1 - alpha)) * self.standard_error


@dataclass(frozen=True, slots=True)
class Bounds:
    """A paired difference with a two-sided interval and one-sided bounds of the same confidence."""

    value: float
    ci_low: float
    ci_high: float
    bound_low: float
    bound_high: float


def estimate_metric(scores: Runs, confidence: float, groups: np.ndarray | None = None) -> Estimate:
    """Estimate a metric and its interval, which is cut at the ends of the metric's range.

    Args:
        scores: The scores of one run, or of several runs over which the metric is averaged.
        confidence: The confidence of the two-sided interval.
        groups: The number of the group of each row, shape (rows,). With None all rows are
            independent.
    """
    bounds = _as_runs(scores)[0].bounds
    found = measure(scores, groups).interval(confidence)
    if bounds is None:
        return found
    return Estimate(found.value, max(found.ci_low, bounds[0]), min(found.ci_high, bounds[1]))


def measure(scores: Runs, groups: np.ndarray | None = None) -> Spread:
    """Measure the spread of a single metric; the arguments are those of `estimate`.

    Two imagined rows are added at each end of the metric's range (Agresti and Coull, "Approximate
    is better than exact", 1998).
    """
    runs = _as_runs(scores)
    return _get_spread([runs], groups, _get_ends(runs) * 2)


def compare(ours: Runs, theirs: Runs, groups: np.ndarray | None = None) -> Spread:
    """Measure the spread of the paired difference `ours - theirs` on the same rows.

    If an arm has several runs, its metric is their mean. The standard error then combines the
    spread between rows with the spread between runs divided by the square root of their number. The
    degrees of freedom follow Satterthwaite (1946).

    Args:
        ours: The scores of one arm.
        theirs: The scores of another arm for the same metric and rows.
        groups: The number of the group of each row, shape (rows,). With None all rows are
            independent.
    """
    first = _as_runs(ours)
    second = _as_runs(theirs)
    ends = _get_ends(first)
    win_and_loss = [ends[1] - ends[0], ends[0] - ends[1]] if ends else []  # Bonett and Price, 2012
    return _get_spread([first, second], groups, win_and_loss)


def difference(
    ours: Runs, theirs: Runs, confidence: float, groups: np.ndarray | None = None
) -> Bounds:
    """Compute the paired difference of `compare` with its interval and one-sided bounds."""
    spread = compare(ours, theirs, groups)
    found = spread.interval(confidence)
    alpha = 1 - confidence
    return Bounds(found.value, found.ci_low, found.ci_high, spread.low(alpha), spread.high(alpha))


def correct_for_looks(confidence: float, place: int) -> float:
    """Return the confidence of a one-sided bound, with the error probability divided by the place.

    This is Bonferroni's correction for the looks up to this one. The verdict on a model therefore
    does not depend on models that come after it. The error probabilities of all looks still add
    up: `python -m benchmarks.looks` shows by how much.

    Args:
        confidence: The confidence of the first look.
        place: The position of the look, counted from 1.
    """
    return 1 - (1 - confidence) / place


def _as_runs(scores: Runs) -> Sequence[Scores]:
    return [scores] if isinstance(scores, Scores) else scores


def _get_ends(runs: Sequence[Scores]) -> list[float]:
    """Return the least and the greatest value of the metric, or nothing if it has no such ends."""
    return list(runs[0].bounds or ())


def _get_spread(
    arms: Sequence[Sequence[Scores]], groups: np.ndarray | None, added: Sequence[float]
) -> Spread:
    """Measure the mean over the runs of the first arm, minus that of the second if there is one."""
    value, variance, count = _jackknife(arms, groups)
    if count < 2:  # noqa: PLR2004  (a single group has no variance)
        return Spread(value, value, float("inf"), 0.0)
    counted: float = max(_count_rows(runs) for runs in arms)
    if groups is not None:
        counted = _get_effective_rows(counted, count, variance, _jackknife(arms, None)[1])
    centre, variance = _add_rows(value, variance, counted, added)
    degrees = float(count - 1)
    for runs in arms:
        variance, degrees = _add_runs(variance, degrees, runs)
    return Spread(value, centre, float(np.sqrt(variance)), degrees)


def _jackknife(
    arms: Sequence[Sequence[Scores]], groups: np.ndarray | None
) -> tuple[float, float, int]:
    """Return the mean or difference of the arms, its jackknife variance and the number of groups."""
    means = [_leave_out(runs, groups) for runs in arms]
    values = means[0] if len(means) == 1 else means[0] - means[1]
    left_out = values[1:]
    count = len(left_out)
    variance = (count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()
    return float(values[0]), float(variance), count


def _get_effective_rows(rows: float, groups: int, variance: float, of_rows: float) -> float:
    """Return how many independent rows say as much as rows in groups (Kish, "Survey Sampling", 1965).

    Where all rows are alike, they do not show how much the rows of a group share. A group is then
    one observation.

    Args:
        rows: The rows that add to the metric.
        groups: The number of groups, which is the least result unless there are fewer such rows.
        variance: The variance of the mean of rows in groups.
        of_rows: The variance that it would have if the rows were independent.
    """
    least = min(rows, groups)
    return max(least, rows * of_rows / max(variance, of_rows)) if of_rows else least


def _leave_out(runs: Sequence[Scores], groups: np.ndarray | None) -> np.ndarray:
    """Compute the mean metric of the runs over all rows, and without each group of rows.

    Returns:
        The values, shape (1 + groups,).
    """
    found = []
    for scores in runs:
        total = scores.rows.sum(axis=0)
        parts = scores.rows
        if groups is not None:
            parts = np.zeros((int(groups.max()) + 1, scores.rows.shape[1]))
            np.add.at(parts, groups, scores.rows)
        found.append(scores.aggregate(np.concatenate([total[None], total - parts])))
    return cast("np.ndarray", np.mean(found, axis=0))


def _count_rows(runs: Sequence[Scores]) -> int:
    """Count the rows that add to the metric; for micro-F1 a row without entities adds nothing."""
    return max(int(np.any(scores.rows != 0, axis=1).sum()) for scores in runs)


def _add_rows(
    value: float, variance: float, count: float, added: Sequence[float]
) -> tuple[float, float]:
    """Return the mean and its variance as if rows with the added values had been measured too."""
    if not added:
        return value, variance
    n = max(count, 1)
    total = n + len(added)
    centre = (n * value + sum(added)) / total
    squares = (
        n * max(n - 1, 1) * variance + n * value**2 + sum(x * x for x in added) - total * centre**2
    )
    return centre, max(squares, 0.0) / total**2


def _add_runs(variance: float, degrees: float, runs: Sequence[Scores]) -> tuple[float, float]:
    """Add the spread between the runs of an arm to a variance and its degrees of freedom."""
    if len(runs) < 2:  # noqa: PLR2004
        return variance, degrees
    between = float(np.var([scores.value for scores in runs], ddof=1)) / len(runs)
    total = variance + between
    parts = variance**2 / degrees + between**2 / (len(runs) - 1)
    return total, (total**2 / parts if parts > 0 else degrees)
