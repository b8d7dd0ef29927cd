"""What training cost, what a request costs in each arm, and when the one has paid for the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.evaluate_config import Prices
from stages.core.metrics import Scores
from stages.core.predictions import REMOTE_ARM, Prediction
from stages.core.statistics import estimate


@dataclass(frozen=True, slots=True)
class Costs:
    """Amounts in `currency`."""

    currency: str
    training: float
    evaluating: float
    """All answers of all arms."""
    per_request: dict[str, float]
    """For each arm: tokens and seconds on this machine at their prices."""
    break_even_requests: int | None
    """Requests after which the tuned model has paid for its training; null where it never does."""
    break_even_low: int | None
    break_even_high: int | None
    """The ends of its interval; null where the saving may be none."""
    break_even_reason: str
    energy: dict[str, Any] | None
    """`country`, `training_kwh`, `training_co2_kg`, and `request_kwh` for each arm; null where it was not measured."""


def get_costs(
    prices: Prices,
    training: Mapping[str, Any],
    predictions: Mapping[str, Sequence[Prediction]],
    tuned: str,
    alternative: str,
    confidence: float,
) -> Costs:
    """Costs from measured tokens and seconds.

    Args:
        prices: of tokens, of an hour of this machine, of hosting.
        training: the numbers of `training.json`.
        predictions: of each arm, for the same rows.
        tuned: the tuned arm's name.
        alternative: the arm that would be used instead.
        confidence: of the interval of the saving.
    """
    costs = {arm: np.array([_request(prices, answer) for answer in answers]) for arm, answers in predictions.items()}
    spent = training["seconds"] * prices.machine_hour / 3600
    saved = costs[alternative] - costs[tuned]
    saving = estimate(Scores(np.stack([saved, np.ones(len(saved))], axis=1), bounds=None), confidence)
    requests, low, high = (_break_even(prices, spent, value) for value in (saving.value, saving.ci_high, saving.ci_low))
    return Costs(
        prices.currency,
        spent,
        float(sum(of_arm.sum() for of_arm in costs.values())),
        {arm: float(of_arm.mean()) for arm, of_arm in costs.items()},
        requests,
        low if requests is not None else None,
        high if requests is not None else None,
        _reason(prices, requests, low, high, saving.value, alternative),
        _energy(training, predictions),
    )


def _energy(training: Mapping[str, Any], predictions: Mapping[str, Sequence[Prediction]]) -> dict[str, Any] | None:
    measured = training.get("energy")
    if not measured:
        return None
    found = {arm: [a.energy_kwh for a in answers if a.energy_kwh is not None] for arm, answers in predictions.items()}
    request = {arm: float(np.mean(values)) for arm, values in found.items() if values}
    return {
        "country": measured["country"],
        "training_kwh": measured["kwh"],
        "training_co2_kg": measured["co2_kg"],
        "request_kwh": request,
    }


def _request(prices: Prices, answer: Prediction) -> float:
    if answer.arm == REMOTE_ARM:  # no hours of this machine, whose prices are others
        asked, told = prices.remote_input_million * answer.prompt_tokens, prices.remote_output_million
        return (asked + told * answer.completion_tokens) / 1e6
    tokens = prices.input_million * answer.prompt_tokens + prices.output_million * answer.completion_tokens
    return tokens / 1e6 + prices.machine_hour / 3600 * answer.seconds


def _break_even(prices: Prices, training: float, saving: float) -> int | None:
    """Requests until the saving has paid training and, month by month, hosting; None where it never does."""
    hosting = prices.hosting_month / prices.requests_month  # for each request
    return round(training / (saving - hosting)) if saving > hosting else None


def _reason(
    prices: Prices, requests: int | None, low: int | None, high: int | None, saving: float, alternative: str
) -> str:
    if requests is not None:
        most = f"{high:,}" if high is not None else "never"
        return f"training costs as much as {requests:,} requests save against {alternative} ({low:,} to {most})"
    if saving <= 0:
        return f"never: a request of the tuned model costs no less than one of {alternative}"
    return (
        f"never: hosting at {prices.hosting_month:,.2f} {prices.currency} a month eats what {prices.requests_month:,} "
        f"requests a month save against {alternative}, {saving * prices.requests_month:,.2f} {prices.currency}"
    )
