"""One arm against another on the same rows, as the report has it."""

from dataclasses import dataclass

import numpy as np

from stages.core.statistics.bounds import Spread
from stages.core.statistics.sample_size import RowsNeeded, get_rows_needed


@dataclass(frozen=True, slots=True)
class Comparison:
    """One arm against another on the same rows."""

    arm: str
    against: str
    metric: str
    difference: float
    ci_low: float
    ci_high: float
    """Ends of the two-sided interval."""
    bound_low: float
    """One-sided: with the same confidence the difference is not below it."""
    bound_high: float
    p_value: float
    """One-sided, of "the difference is at most the margin"."""
    rows_needed: RowsNeeded | None
    """Null where the margin does not lie between the bounds."""


def describe_pair(
    pair: tuple[str, str],
    metric: str,
    spread: Spread,
    *,
    margin: float,
    confidence: float,
    rows: int,
) -> Comparison:
    """A comparison as the report has it.

    Args:
        pair: the two arms.
        metric: by which they are compared.
        spread: their paired difference.
        margin: the smallest difference that is worth having; 0 for a metric that does not decide.
        confidence: of interval and bounds.
        rows: that were judged.
    """
    found = spread.interval(confidence)
    alpha = 1 - confidence
    low = spread.low(alpha)
    high = spread.high(alpha)
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
