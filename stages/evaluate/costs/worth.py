"""Rank the arms by their worth, if the prices say what a correct answer is worth."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stages.core.config.evaluate import Prices
from stages.evaluate.costs.payback import Bounds, Outlay, get_bounds


@dataclass(frozen=True, slots=True)
class Worth:
    """Hold the net value of a request in each arm.

    The net value is the value of a correct answer times the share of correct answers, minus all
    costs.
    """

    per_request: dict[str, float]
    """The mean net value; training, labelling and hosting are spread over the horizon."""
    best: str
    ahead: Bounds | None
    """The lead of the best arm over the second, per request; null if there is no second."""
    sentence: str


def get_worth(
    prices: Prices,
    costs: Mapping[str, np.ndarray],
    outlays: Mapping[str, Outlay],
    right: Mapping[str, np.ndarray] | None,
    confidence: float,
    groups: np.ndarray | None = None,
) -> Worth | None:
    """Compute the expected net value of each arm.

    Args:
        prices: The section of the configuration, which has the value of a correct answer.
        costs: The costs of each arm's requests, shape (repeats, rows).
        outlays: What each arm costs apart from its requests.
        right: For each arm, 1 or 0 for each row.
        confidence: The confidence of each bound.
        groups: The group of each row.

    Returns:
        The values; None if correct answers have no price or answers are not right or wrong.
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
        f"If a correct answer is worth {prices.value_of_right_answer:,.4g} {prices.currency}, "
        f"{best} is worth most: {thousand(mean[best])} {prices.currency} per 1,000 requests"
    )
    if mean[best] < 0:
        return f"{opening}, which is a loss, so no arm pays off."
    if ahead is None:
        return f"{opening}."
    more = (
        f"{thousand(ahead.value)} (bounds {thousand(ahead.low)} to {thousand(ahead.high)}) more "
        f"than {ranked[1]}"
    )
    return f"{opening}, {more}{'' if ahead.low > 0 else ', although there may be no difference'}."
