"""Compute the costs of all arms in one scenario, which is one way to pay."""

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
"""Arms that need the labels of all training rows too.

Compared with these arms, labelling is not an extra cost of tuning.
"""


@dataclass(frozen=True, slots=True)
class Measurements:
    """Hold the measurements from which costs are computed."""

    predictions: Mapping[str, Sequence[Prediction]]
    """The answers of each arm to the same rows."""
    training: Mapping[str, Mapping[str, Any]]
    """For each trained arm, the numbers of its `training.json`."""
    timings: Mapping[str, Rounds]
    """The rounds of rates that `stages.evaluate.costs.timings.read_timings` reads."""
    training_rows: int
    """The number of labelled training rows."""
    right: Mapping[str, np.ndarray] | None
    """For each arm, 1 or 0 for each row; null if the primary metric is not right or wrong."""
    groups: np.ndarray | None = None
    """The group of each row, see `stages.core.data.groups`."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Hold the costs of one way to pay, in the currency of the prices."""

    formula: str
    training: float
    """The cost of training the candidate, without labelling."""
    per_request: dict[str, float | None]
    """The mean cost of a request in each arm; null if an endpoint did not report its tokens."""
    per_right_answer: dict[str, float | None]
    """The mean cost of a request divided by the share of correct answers.

    Null if no answer is correct, or if answers are not simply right or wrong.
    """
    payback: dict[str, Payback]
    """The comparison of the candidate with each other arm whose costs are known."""
    worth: Worth | None
    """The value of the arms.

    Null unless the prices say what a correct answer is worth and the metric says which answers are
    correct.
    """


def get_scenario(
    name: str,
    formula: str,
    prices: Prices,
    measured: Measurements,
    candidate: str,
    confidence: float,
) -> Scenario:
    """Compute the costs of all arms in one scenario.

    Args:
        name: The name of the scenario.
        formula: An explanation of the scenario.
        prices: The section of the configuration.
        measured: The measurements of all arms.
        candidate: The trained arm that is to pay for itself.
        confidence: The confidence of each bound.
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
    """Price a training by the hour, or by the token if the price list has a price for that.

    The answers of a teacher are paid for at the prices of the arm `remote`.

    Returns:
        The amount and its possible error, because the machine is not always equally fast.
    """
    asked = numbers.get("teacher", {"prompt_tokens": 0, "completion_tokens": 0})
    answers = (
        asked["prompt_tokens"] * prices.remote.per_million_input_tokens
        + asked["completion_tokens"] * prices.remote.per_million_output_tokens
    ) / 1e6
    million = prices.tokens.per_million_training_tokens
    if scenario == "tokens" and million is not None:
        return answers + numbers["tokens"] / 1e6 * million, 0.0
    amount = numbers["seconds"] / 3600 * prices.training.per_hour
    return answers + amount, amount * prices.training.relative_error


def get_labelling(prices: Prices, measured: Measurements) -> float:
    """Compute the cost of labelling all training rows."""
    return prices.training.per_labelled_row * measured.training_rows


def _outlay(
    prices: Prices, measured: Measurements, training: Mapping[str, tuple[float, float]], arm: str
) -> Outlay:
    """Compute what an arm costs apart from its requests."""
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
