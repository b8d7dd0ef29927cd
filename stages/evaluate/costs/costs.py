"""Compute what training, requests and correct answers cost, and when training has paid off."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.config.arms import REMOTE_ARM
from stages.core.config.evaluate import Prices
from stages.evaluate.costs.pricing import describe_prices, price_requests
from stages.evaluate.costs.scenarios import Measurements, Scenario, get_labelling, get_scenario
from stages.evaluate.costs.worth import Worth


@dataclass(frozen=True, slots=True)
class Costs:
    """Hold the costs from the point of view of one candidate.

    Amounts are in `currency`. Amounts outside `scenarios` belong to the scenario that decides.
    """

    currency: str
    candidate: str
    alternative: str
    scenario: str
    scenarios: dict[str, Scenario]
    training: float
    labelling: float
    """The cost of labelling all training rows.

    It is not part of `training`. It is part of every break-even against an arm that needs no
    labels.
    """
    evaluating: float
    """The cost of all answers of all arms, by this machine's seconds and the endpoint's tokens."""
    per_request: dict[str, float | None]
    break_even_requests: int | None
    """The number of requests after which the candidate has paid for itself.

    It is compared with the alternative. This number and its bounds are null if there may be no
    saving.
    """
    break_even_low: int | None
    break_even_high: int | None
    break_even_reason: str
    """The break-even in words, without a full stop."""
    cheaper: dict[str, bool]
    """For each other arm, whether the candidate surely saves money and pays for itself in time."""
    cheaper_reasons: dict[str, str]
    worth: Worth | None
    sentence: str
    """The costs of training and of correct answers, and the break-even, in words."""
    energy: dict[str, Any] | None
    """The keys `country`, `training_kwh`, `training_co2_kg`, and `request_kwh` for each arm.

    Null if energy was not measured.
    """


def get_costs(
    prices: Prices, measured: Measurements, candidate: str, alternative: str, confidence: float
) -> Costs:
    """Compute the costs in all scenarios, and summarize the scenario that decides.

    Args:
        prices: The section of the configuration.
        measured: The numbers of tokens, the rates of the machine and the effort of training.
        candidate: The trained arm that is to pay for itself.
        alternative: The arm that would be used instead, with which the break-even is computed.
        confidence: The confidence of each bound.
    """
    found = {
        name: get_scenario(name, formula, prices, measured, candidate, confidence)
        for name, formula in describe_prices(prices).items()
    }
    decisive = found[prices.scenario]
    others = [arm for arm in measured.predictions if arm != candidate]
    against = decisive.payback.get(alternative)
    return Costs(
        currency=prices.currency,
        candidate=candidate,
        alternative=alternative,
        scenario=prices.scenario,
        scenarios=found,
        training=decisive.training,
        labelling=get_labelling(prices, measured),
        evaluating=_evaluating(prices, measured),
        per_request=decisive.per_request,
        break_even_requests=against.requests if against else None,
        break_even_low=against.low if against else None,
        break_even_high=against.high if against else None,
        break_even_reason=_break_even(decisive, alternative),
        cheaper={arm: arm in decisive.payback and decisive.payback[arm].cheaper for arm in others},
        cheaper_reasons={
            arm: decisive.payback[arm].reason if arm in decisive.payback else f"{_unknown(arm)}."
            for arm in others
        },
        worth=decisive.worth,
        sentence=_say(prices, measured, decisive, candidate, alternative),
        energy=_energy(measured, candidate),
    )


def _evaluating(prices: Prices, measured: Measurements) -> float:
    here = [
        a.seconds
        for arm, answers in measured.predictions.items()
        if arm != REMOTE_ARM
        for a in answers
    ]
    paid = sum(here) / 3600 * prices.machine.per_hour
    if REMOTE_ARM not in measured.predictions:
        return paid
    remote = price_requests(
        prices.scenario, prices, measured.predictions[REMOTE_ARM], measured.timings, tuned=False
    )
    return paid + (0.0 if remote is None else float(remote.sum()))


def _energy(measured: Measurements, candidate: str) -> dict[str, Any] | None:
    energy = measured.training[candidate].get("energy")
    if not energy:
        return None
    found = {
        arm: [a.energy_kwh for a in answers if a.energy_kwh is not None]
        for arm, answers in measured.predictions.items()
    }
    return {
        "country": energy["country"],
        "training_kwh": energy["kwh"],
        "training_co2_kg": energy["co2_kg"],
        "request_kwh": {arm: float(np.mean(values)) for arm, values in found.items() if values},
    }


def _say(
    prices: Prices, measured: Measurements, found: Scenario, candidate: str, alternative: str
) -> str:
    labelling = get_labelling(prices, measured)
    once = f"training costs {found.training:,.4g} {prices.currency}"
    once += (
        f" and labelling {measured.training_rows:,} rows costs {labelling:,.4g} {prices.currency}"
        if labelling
        else ""
    )
    text = f"In the cost scenario {prices.scenario}, {once}. {_break_even(found, alternative)}."
    ours = found.per_right_answer[candidate]
    theirs = found.per_right_answer[alternative]
    if ours is None or theirs is None:
        return text
    return (
        f"{text} 1,000 correct answers cost {1000 * ours:,.3g} {prices.currency} with {candidate} "
        f"and {1000 * theirs:,.3g} {prices.currency} with {alternative}."
    )


def _break_even(found: Scenario, alternative: str) -> str:
    against = found.payback.get(alternative)
    return against.sentence if against else f"Break-even: unknown; {_unknown(alternative)}"


def _unknown(arm: str) -> str:
    return f"{arm} does not report its token counts, so the cost of its requests is unknown"
