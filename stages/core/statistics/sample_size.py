"""The smallest gain that a number of test rows shows, and the rows that an open question needs."""

from dataclasses import dataclass

import numpy as np

from stages.core.statistics.bounds import Spread

POWER = 0.8
"""The probability that the number of rows suffices (the convention of Cohen, 1988)."""
RANGE = 0.8
"""The confidence of the interval of the difference from which the range of rows is computed."""


@dataclass(frozen=True, slots=True)
class RowsNeeded:
    """The range of test rows with which a bound would exclude the margin.

    It assumes that the difference lies within its interval.
    """

    low: int
    high: int | None
    """None if the difference may equal the margin, which no number of rows would settle."""


def get_rows_needed(spread: Spread, margin: float, rows: int, alpha: float) -> RowsNeeded | None:
    """Estimate how many rows would show on which side of the margin a difference lies.

    The distance between a bound and the difference falls with the square root of the number of
    rows. The range comes from the ends of the difference's own interval (confidence `RANGE`). The
    value alone is a poor guide in an undecided test.

    Returns:
        The range of rows, or None if the standard error is zero or infinite.
    """
    from scipy.special import ndtri

    if not np.isfinite(spread.standard_error) or spread.standard_error == 0:
        return None
    gap = abs(spread.centre - margin)
    spare = float(ndtri((1 + RANGE) / 2)) * spread.standard_error
    reach = float(ndtri(1 - alpha) + ndtri(POWER)) * spread.standard_error
    # The present rows did not settle the question, so at least one more is needed.
    low = max(int(np.ceil(rows * (reach / (gap + spare)) ** 2)), rows + 1)
    high = int(np.ceil(rows * (reach / (gap - spare)) ** 2)) if gap > spare else None
    return RowsNeeded(low, None if high is None else max(low, high))


def get_smallest_gain(rows: int, differ: float, margin: float, confidence: float) -> float:
    """Compute the smallest true gain that a number of rows shows with probability `POWER`.

    The formula is for answers that are right or wrong. It follows from the variance of a paired
    difference, `differ - gain ** 2` (Miller, "Adding error bars to evals", 2024, section 5; Card et
    al., "With little power comes great responsibility", 2020).

    Args:
        rows: The number of test rows.
        differ: The share of rows on which one of the two arms is right and the other wrong.
        margin: The margin that the lower bound must exceed.
        confidence: The confidence of the bound.
    """
    from scipy.special import ndtri

    reach = float(ndtri(confidence) + ndtri(POWER)) ** 2 / rows
    # (gain - margin)^2 = reach * (differ - gain^2), solved for the gain.
    under_root = max(reach * (differ * (1 + reach) - margin**2), 0.0)
    gain = (margin + float(np.sqrt(under_root))) / (1 + reach)
    if gain <= differ:
        return gain
    # Arms with such a gain differ on at least that share of rows, so the gain takes the place of
    # `differ`.
    half = (2 * margin + reach) / 2
    return (half + float(np.sqrt(half**2 - (1 + reach) * margin**2))) / (1 + reach)
