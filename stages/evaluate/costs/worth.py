"""Which arm is worth most, where the prices say what a right answer is worth."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stages.core.config.evaluate import Prices
from stages.evaluate.costs.payback import Bounds, Outlay, get_bounds


@dataclass(frozen=True, slots=True)
class Worth:
    """What a request brings in each arm: the value of a right answer times the share of them, less all costs."""

    per_request: dict[str, float]
    """Training, labelling and hosting are spread over the requests of the horizon."""
    best: str
    ahead: Bounds | None
    """By how much a request of the best arm brings more than one of the second; null where there is no second."""
    sentence: str


def get_worth(
    prices: Prices,
    costs: Mapping[str, np.ndarray],
    outlays: Mapping[str, Outlay],
    right: Mapping[str, np.ndarray] | None,
    confidence: float,
    groups: np.ndarray | None = None,
) -> Worth | None:
    """The expected net value of each arm, and what that says; None where right answers have no value or no meaning.

    Args:
        prices: with the value of a right answer.
        costs: of each arm's requests, shape (repeats, rows).
        outlays: what each arm costs apart from them.
        right: for each arm 1 or 0 for each row.
        confidence: of each bound.
        groups: of the rows.
    """
    value = prices.value_of_right_answer
    if value is None or right is None:
        return None
    net = {
        arm: value * right[arm][None]
        - cost
        - outlays[arm].hosting
        - outlays[arm].once / outlays[arm].horizon
        for arm, cost in costs.items()
    }
    ranked = sorted(net, key=lambda arm: -net[arm].mean())
    ahead = (
        get_bounds(net[ranked[0]] - net[ranked[1]], confidence, groups) if len(ranked) > 1 else None
    )
    mean = {arm: float(values.mean()) for arm, values in net.items()}
    return Worth(mean, ranked[0], ahead, _say(prices, ranked, mean, ahead))


def _say(prices: Prices, ranked: list[str], mean: Mapping[str, float], ahead: Bounds | None) -> str:
    def thousand(amount: float) -> str:
        return f"{1000 * amount:,.4g}"

    best = ranked[0]
    opening = (
        f"With a right answer worth {prices.value_of_right_answer:,.4g} {prices.currency}, {best} is worth most: "
        f"{thousand(mean[best])} {prices.currency} for 1,000 requests"
    )
    if mean[best] < 0:
        return f"{opening}, which is a loss: answer none of them this way."
    if ahead is None:
        return f"{opening}."
    more = f"{thousand(ahead.value)} (bounds {thousand(ahead.low)} and {thousand(ahead.high)}) more than {ranked[1]}"
    return f"{opening}, {more}{'' if ahead.low > 0 else ', which may be none'}."
