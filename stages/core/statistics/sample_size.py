"""How many test rows tell what: the smallest gain that so many rows show, and the rows that an open question needs."""

from dataclasses import dataclass

import numpy as np

from stages.core.statistics.bounds import Spread

POWER = 0.8
"""The chance that so many rows suffice (the convention of Cohen, 1988)."""
RANGE = 0.8
"""Confidence of the range of the difference from which the range of rows comes."""


@dataclass(frozen=True, slots=True)
class RowsNeeded:
    """Test rows with which a bound would leave the margin out, if the difference is within its interval."""

    low: int
    high: int | None
    """Null where the difference may be the margin itself, which no number of rows would tell."""


def get_rows_needed(spread: Spread, margin: float, rows: int, alpha: float) -> RowsNeeded | None:
    """How many rows would tell on which side of the margin a difference lies.

    A bound's distance from the difference falls with the root of the rows. The range comes from the ends of the
    difference's own interval (confidence `RANGE`), not from its value alone, a poor guide in an undecided test.
    """
    from scipy.special import ndtri

    if not np.isfinite(spread.standard_error) or spread.standard_error == 0:
        return None
    gap = abs(spread.centre - margin)
    spare = float(ndtri((1 + RANGE) / 2)) * spread.standard_error
    reach = float(ndtri(1 - alpha) + ndtri(POWER)) * spread.standard_error
    low = max(
        int(np.ceil(rows * (reach / (gap + spare)) ** 2)), rows + 1
    )  # the rows that are there have not told
    high = int(np.ceil(rows * (reach / (gap - spare)) ** 2)) if gap > spare else None
    return RowsNeeded(low, None if high is None else max(low, high))


def get_smallest_gain(rows: int, differ: float, margin: float, confidence: float) -> float:
    """The smallest true gain that so many rows show with a chance of `POWER`, for answers that are right or wrong.

    From the variance of a paired difference, `differ - gain ** 2` (Miller, "Adding error bars to evals", 2024, section
    5; Card et al., "With little power comes great responsibility", 2020).

    Args:
        rows: to be judged.
        differ: the share of rows on which one of the two arms is right and the other wrong.
        margin: that must be left below.
        confidence: of the bound.
    """
    from scipy.special import ndtri

    reach = float(ndtri(confidence) + ndtri(POWER)) ** 2 / rows
    # (gain - margin)^2 = reach * (differ - gain^2), solved for the gain.
    under_root = max(reach * (differ * (1 + reach) - margin**2), 0.0)
    gain = (margin + float(np.sqrt(under_root))) / (1 + reach)
    if gain <= differ:
        return gain
    # Two arms that gain so much differ on as many rows at least: the same with the gain in place of `differ`.
    half = (2 * margin + reach) / 2
    return (half + float(np.sqrt(half**2 - (1 + reach) * margin**2))) / (1 + reach)
