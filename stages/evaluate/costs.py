"""What training cost, what a request costs in each arm, and when the one has paid for the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.core.config import Prices
from stages.core.predictions import Prediction
from stages.evaluate.statistics import Resampling, bootstrap


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


def get_costs(
    prices: Prices,
    training_seconds: float,
    predictions: Mapping[str, Sequence[Prediction]],
    tuned: str,
    alternative: str,
    how: Resampling,
) -> Costs:
    """Costs from measured tokens and seconds.

    Args:
        prices: of tokens, of an hour of this machine, of hosting.
        training_seconds: of the training alone.
        predictions: of each arm, for the same rows.
        tuned: the tuned arm's name.
        alternative: the arm that would be used instead.
        how: the interval of the saving is made.
    """
    costs = {arm: np.array([_request(prices, answer) for answer in answers]) for arm, answers in predictions.items()}
    training = training_seconds * prices.machine_hour / 3600
    saved = costs[alternative] - costs[tuned]
    saving = bootstrap(lambda rows: saved[rows].mean(axis=-1), len(saved), how)
    requests, low, high = (
        _break_even(prices, training, value) for value in (saving.value, saving.ci_high, saving.ci_low)
    )
    return Costs(
        prices.currency,
        training,
        float(sum(of_arm.sum() for of_arm in costs.values())),
        {arm: float(of_arm.mean()) for arm, of_arm in costs.items()},
        requests,
        low if requests is not None else None,
        high if requests is not None else None,
        _reason(prices, requests, low, high, saving.value, alternative),
    )


def _request(prices: Prices, answer: Prediction) -> float:
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
