"""What training cost, what a request and a right answer cost in each arm, and when the one has paid for the other."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.config.arms import REMOTE_ARM
from stages.core.config.evaluate import Prices
from stages.evaluate.costs.pricing import describe, price_requests
from stages.evaluate.costs.scenarios import Measurements, Scenario, get_labelling, get_scenario
from stages.evaluate.costs.worth import Worth


@dataclass(frozen=True, slots=True)
class Costs:
    """Amounts in `currency`; those outside of `scenarios` are of the scenario that decides."""

    currency: str
    candidate: str
    alternative: str
    scenario: str
    scenarios: dict[str, Scenario]
    training: float
    labelling: float
    """Of all training rows; not part of `training`, but of every break-even where the other arm needs no labels."""
    evaluating: float
    """All answers of all arms: the seconds that this machine took, and the endpoint's tokens."""
    per_request: dict[str, float | None]
    break_even_requests: int | None
    """Requests after which the candidate has paid for itself against the alternative; null, as are its ends, where the
    saving may be none."""
    break_even_low: int | None
    break_even_high: int | None
    break_even_reason: str
    """A sentence without its full stop."""
    cheaper: dict[str, bool]
    """For each other arm whether the candidate saves money with confidence, and pays for its making in time."""
    cheaper_reasons: dict[str, str]
    worth: Worth | None
    sentence: str
    """What training costs, when it has come back, and what a right answer costs."""
    energy: dict[str, Any] | None
    """`country`, `training_kwh`, `training_co2_kg`, and `request_kwh` for each arm; null where it was not measured."""


def get_costs(
    prices: Prices, measured: Measurements, candidate: str, alternative: str, confidence: float
) -> Costs:
    """All scenarios, and what the deciding one says.

    Args:
        prices: the section of the configuration.
        measured: numbers of tokens, rates of the machine, what training took.
        candidate: the trained arm that is to pay for itself.
        alternative: the arm that would be used instead; the break-even is against it.
        confidence: of each bound.
    """
    found = {
        name: get_scenario(name, formula, prices, measured, candidate, confidence)
        for name, formula in describe(prices).items()
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
    once = f"training {found.training:,.4g} {prices.currency}"
    once += (
        f", labelling {measured.training_rows:,} rows {labelling:,.4g} {prices.currency}"
        if labelling
        else ""
    )
    text = f"Costs in the scenario {prices.scenario}: {once}. {_break_even(found, alternative)}."
    ours = found.per_right_answer[candidate]
    theirs = found.per_right_answer[alternative]
    if ours is None or theirs is None:
        return text
    return (
        f"{text} 1,000 right answers cost {1000 * ours:,.3g} {prices.currency} with {candidate} and "
        f"{1000 * theirs:,.3g} with {alternative}."
    )


def _break_even(found: Scenario, alternative: str) -> str:
    against = found.payback.get(alternative)
    return against.sentence if against else f"Break-even: unknown; {_unknown(alternative)}"


def _unknown(arm: str) -> str:
    return f"the endpoint of {arm} does not say how many tokens its requests took, so their cost is not known"
