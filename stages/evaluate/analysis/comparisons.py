"""Describe paired comparisons of two arms for the report."""

from dataclasses import dataclass

import numpy as np

from stages.core.statistics.bounds import Spread
from stages.core.statistics.sample_size import RowsNeeded, get_rows_needed


@dataclass(frozen=True, slots=True)
class Comparison:
    """Describe the paired difference of two arms on the same rows."""

    arm: str
    against: str
    metric: str
    difference: float
    ci_low: float
    ci_high: float
    """The ends of the two-sided interval."""
    bound_low: float
    """The one-sided lower bound. That of a tuned arm is corrected for the number of tuned arms and
    of looks, as the verdict requires."""
    bound_high: float
    """The one-sided upper bound, with the confidence of the interval."""
    p_value: float
    """The one-sided p-value of the hypothesis "the difference is at most the margin"."""
    rows_needed: RowsNeeded | None
    """Null if the margin does not lie between the bounds."""


def describe_pair(
    pair: tuple[str, str],
    metric: str,
    spread: Spread,
    *,
    margin: float,
    confidence: float,
    low_confidence: float,
    rows: int,
) -> Comparison:
    """Describe a comparison for the report.

    Args:
        pair: The two arms.
        metric: The metric that compares them.
        spread: Their paired difference.
        margin: The smallest difference that is worth having; 0 for a metric that does not decide.
        confidence: The confidence of the interval and of the upper bound.
        low_confidence: The confidence of the lower bound.
        rows: The number of rows that were judged.
    """
    found = spread.interval(confidence)
    alpha = 1 - low_confidence
    low = spread.low(alpha)
    high = spread.high(1 - confidence)
    needed = get_rows_needed(spread, margin, rows, alpha) if low <= margin <= high else None
    p_value = _get_p_value(spread, margin)
    return Comparison(
        *pair, metric, found.value, found.ci_low, found.ci_high, low, high, p_value, needed
    )


def _get_p_value(spread: Spread, margin: float) -> float:
    from scipy.special import stdtr

    if not np.isfinite(spread.standard_error):
        return 1.0
    if spread.standard_error == 0:
        return float(spread.centre <= margin)
    return float(1 - stdtr(spread.degrees, (spread.centre - margin) / spread.standard_error))
