"""One way to pay: what training, a request and a right answer cost in it, and what the candidate saves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.config.evaluate import Prices
from stages.core.data.predictions import Prediction
from stages.evaluate.costs.payback import Outlay, Payback, get_payback
from stages.evaluate.costs.pricing import price_requests
from stages.evaluate.costs.timings import Rounds
from stages.evaluate.costs.worth import Worth, get_worth

USES_LABELS = ("retrieval", "constant", "nearest", "lookup")
"""Arms that need the labels of all training rows too, so that labelling is no cost of tuning against them."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """What costs are computed from."""

    predictions: Mapping[str, Sequence[Prediction]]
    """Of each arm, for the same rows."""
    training: Mapping[str, Mapping[str, Any]]
    """For each arm that was trained the numbers of its `training.json`."""
    timings: Mapping[str, Rounds]
    """As `stages.evaluate.costs.timings.read_timings` gives them."""
    training_rows: int
    """That somebody labelled."""
    right: Mapping[str, np.ndarray] | None
    """For each arm 1 or 0 for each row; null where the primary metric does not say right or wrong."""
    groups: np.ndarray | None = None
    """The group of each row, see `stages.core.data.groups`."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to pay; amounts in the currency of the prices."""

    formula: str
    training: float
    """Of the candidate, without labelling."""
    per_request: dict[str, float | None]
    """The mean of each arm; null where an endpoint did not say how many tokens it read."""
    per_right_answer: dict[str, float | None]
    """The same over the share of right answers; null where nothing is right, or no answer is simply right or wrong."""
    payback: dict[str, Payback]
    """The candidate against each other arm whose costs are known."""
    worth: Worth | None
    """Null unless the prices say what a right answer is worth, and the metric which answer is right."""


def get_scenario(
    name: str,
    formula: str,
    prices: Prices,
    measured: Measurements,
    candidate: str,
    confidence: float,
) -> Scenario:
    """All arms in one scenario.

    Args:
        name: of the scenario.
        formula: how it counts, in words.
        prices: the section of the configuration.
        measured: see `Measurements`.
        candidate: the trained arm that is to pay for itself.
        confidence: of each bound.
    """
    training = {arm: _training(name, prices, numbers) for arm, numbers in measured.training.items()}
    priced = {
        arm: price_requests(name, prices, answers, measured.timings, tuned=arm in training)
        for arm, answers in measured.predictions.items()
    }
    known = {arm: cost for arm, cost in priced.items() if cost is not None}
    outlays = {arm: _outlay(prices, measured, training, arm) for arm in known}
    return Scenario(
        formula=formula,
        training=training[candidate][0],
        per_request={
            arm: None if cost is None else float(cost.mean()) for arm, cost in priced.items()
        },
        per_right_answer={
            arm: _per_right_answer(cost, measured.right, arm) for arm, cost in priced.items()
        },
        payback={
            arm: get_payback(
                known[arm] - known[candidate],
                outlays[candidate].beyond(outlays[arm]),
                candidate,
                arm,
                confidence,
                measured.groups,
            )
            for arm in known
            if arm != candidate
        },
        worth=get_worth(prices, known, outlays, measured.right, confidence, measured.groups),
    )


def _training(scenario: str, prices: Prices, numbers: Mapping[str, Any]) -> tuple[float, float]:
    """By the million tokens in the scenario of the price list, where it has such a price; else by the hour.

    Returns:
        The amount, and by how much it may be off because the machine is not equally fast at all hours.
    """
    million = prices.tokens.per_million_training_tokens
    if scenario == "tokens" and million is not None:
        return numbers["tokens"] / 1e6 * million, 0.0
    amount = numbers["seconds"] / 3600 * prices.training.per_hour
    return amount, amount * prices.training.relative_error


def get_labelling(prices: Prices, measured: Measurements) -> float:
    """What the labels of all training rows cost."""
    return prices.training.per_labelled_row * measured.training_rows


def _outlay(
    prices: Prices, measured: Measurements, training: Mapping[str, tuple[float, float]], arm: str
) -> Outlay:
    """What an arm costs apart from its requests."""
    amount, error = training.get(arm, (0.0, 0.0))
    labels = arm in training or arm in USES_LABELS
    return Outlay(
        amount,
        get_labelling(prices, measured) if labels else 0.0,
        prices.hosting_per_month if arm in training else 0.0,
        prices,
        error,
    )


def _per_right_answer(
    cost: np.ndarray | None, right: Mapping[str, np.ndarray] | None, arm: str
) -> float | None:
    if cost is None or right is None or not right[arm].any():
        return None
    return float(cost.mean() / right[arm].mean())
