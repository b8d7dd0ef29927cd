"""Compute whether training pays off, with bounds for sampled rows and machine noise."""

from dataclasses import dataclass

import numpy as np

from stages.core.config.evaluate import Prices
from stages.core.statistics.bounds import measure
from stages.core.statistics.scores import Scores


@dataclass(frozen=True, slots=True)
class Bounds:
    """Hold a mean with its one-sided lower and upper bound."""

    value: float
    low: float
    high: float

    def minus(self, amount: float) -> "Bounds":
        """Subtract an amount from all three values."""
        return Bounds(self.value - amount, self.low - amount, self.high - amount)


@dataclass(frozen=True, slots=True)
class Outlay:
    """Hold what an arm costs apart from its requests, in total or beyond another arm."""

    training: float
    labelling: float
    hosting_per_month: float
    prices: Prices
    training_error: float = 0.0
    """The possible error of `training`, because the machine is not always equally fast."""

    @property
    def once(self) -> float:
        """Get the amount that is paid before the first request."""
        return self.training + self.labelling

    @property
    def hosting(self) -> float:
        """Get the cost of hosting for each request."""
        return self.hosting_per_month / self.prices.requests_per_month

    @property
    def horizon(self) -> int:
        """Get the number of requests within which the outlay must be paid back."""
        return self.prices.requests_per_month * self.prices.horizon_months

    def beyond(self, other: "Outlay") -> "Outlay":
        """Compute what this outlay costs beyond another."""
        return Outlay(
            self.training - other.training,
            self.labelling - other.labelling,
            self.hosting_per_month - other.hosting_per_month,
            self.prices,
            self.training_error + other.training_error,
        )

    def get_requests(self, saving: Bounds) -> Bounds:
        """Compute the number of requests after which the one-time cost is paid back.

        Args:
            saving: The saving of a request, whose lower bound is above zero.
        """
        error = self.training_error
        return Bounds(
            self.once / saving.value,
            (self.once - error) / saving.high,
            (self.once + error) / saving.low,
        )

    def is_paid_back(self, saving: Bounds) -> bool:
        """Tell whether the outlay is surely paid back within the horizon."""
        return saving.low > 0 and self.once + self.training_error <= self.horizon * saving.low


@dataclass(frozen=True, slots=True)
class Payback:
    """Compare the costs of a candidate with those of one other arm."""

    saving: Bounds
    """The saving of a request after the cost of hosting."""
    requests: int | None
    """The number of requests after which the one-time cost is paid back.

    This number and its bounds are null if there may be no saving.
    """
    low: int | None
    high: int | None
    requests_without_labelling: int | None
    sentence: str
    """The break-even in words, without a full stop."""
    cheaper: bool
    """Whether a request surely saves money and the one-time cost is paid back within the horizon.

    Both must hold by the lower bound of the saving.
    """
    reason: str


def get_bounds(values: np.ndarray, confidence: float, groups: np.ndarray | None = None) -> Bounds:
    """Compute a mean with one-sided t bounds.

    Rows and repeats are two samples: one of requests, one of moments of the machine.
    `stages.core.statistics.bounds` treats rows and training seeds in the same way. Values with one
    repeat contain no machine time. One row alone has no spread, so its bounds are infinite.

    Args:
        values: The values, shape (repeats, rows), with the same rows in each repeat.
        confidence: The confidence of each bound.
        groups: The group of each row, see `stages.core.statistics.bounds`.
    """
    rows = np.ones(values.shape[1])
    repeats = [Scores(np.stack([of_repeat, rows], axis=1), bounds=None) for of_repeat in values]
    spread = measure(repeats, groups)
    alpha = 1 - confidence
    return Bounds(spread.value, spread.low(alpha), spread.high(alpha))


def get_payback(
    saved: np.ndarray,
    outlay: Outlay,
    candidate: str,
    other: str,
    confidence: float,
    groups: np.ndarray | None = None,
) -> Payback:
    """Compute when a candidate has paid for itself compared with another arm.

    Args:
        saved: The saving of each request, shape (repeats, rows).
        outlay: What the candidate costs beyond the other arm, apart from requests.
        candidate: The name of the candidate.
        other: The name of the other arm.
        confidence: The confidence of each bound.
        groups: The group of each row.
    """
    gross = get_bounds(saved, confidence, groups)
    saving = gross.minus(outlay.hosting)
    needed = outlay.get_requests(saving) if saving.low > 0 else None
    return Payback(
        saving=saving,
        requests=_whole(needed.value) if needed else None,
        low=_whole(needed.low) if needed else None,
        high=_whole(needed.high) if needed else None,
        requests_without_labelling=_whole(outlay.training / saving.value) if needed else None,
        sentence=_break_even(outlay, gross, saving, candidate, other),
        cheaper=outlay.is_paid_back(saving),
        reason=_reason(outlay, saving, candidate, other),
    )


def _whole(requests: float) -> int:
    return max(0, int(np.ceil(requests)))


def _break_even(outlay: Outlay, gross: Bounds, saving: Bounds, candidate: str, other: str) -> str:
    prices = outlay.prices
    if saving.low > 0:
        if outlay.once + outlay.training_error <= 0:
            return (
                f"Break-even: immediately; {candidate} costs no more than {other} to make and less "
                "per request"
            )
        needed = outlay.get_requests(saving)
        low, high = (f"{_whole(end):,}" for end in (needed.low, needed.high))
        return (
            f"Break-even: after {_whole(needed.value):,} requests ({low} to {high}) compared with "
            f"{other}"
        )
    if gross.high <= 0:
        return f"Break-even: never; a {candidate} request is not cheaper than a {other} request"
    if saving.high <= 0:
        month = gross.value * prices.requests_per_month
        return (
            f"Break-even: never; hosting costs {outlay.hosting_per_month:,.2f} {prices.currency} a "
            f"month, but {prices.requests_per_month:,} requests a month save only {month:,.2f} "
            f"{prices.currency} compared with {other}"
        )
    return (
        f"Break-even: unknown; 1,000 {candidate} requests save {_of_thousand(saving, prices)} "
        f"compared with {other}, so there may be no saving"
    )


def _reason(outlay: Outlay, saving: Bounds, candidate: str, other: str) -> str:
    """Say why the candidate counts as cheaper than the other arm or does not."""
    prices = outlay.prices
    hosting = " with hosting included" if outlay.hosting_per_month else ""
    if saving.high <= 0:
        more = _of_thousand(Bounds(-saving.value, -saving.high, -saving.low), prices)
        return f"{candidate} is not cheaper than {other}: 1,000 requests cost {more} more{hosting}."
    if saving.low <= 0:
        save = f"save {_of_thousand(saving, prices)}{hosting}"
        return f"{candidate} was not shown to be cheaper than {other}: 1,000 requests {save}."
    least = f"{outlay.horizon * saving.low:,.4g} {prices.currency}"
    time = (
        f"{prices.horizon_months} months with {prices.requests_per_month:,} requests each save at "
        f"least {least}"
    )
    most = max(0.0, outlay.once + outlay.training_error)
    paid = (
        f"training and labelling cost {'at most ' if outlay.training_error else ''}{most:,.4g} "
        f"{prices.currency}"
    )
    if outlay.is_paid_back(saving):
        return f"{candidate} is cheaper than {other}: {time}, and {paid}."
    return f"{candidate} was not shown to pay for itself compared with {other}: {time}, but {paid}."


def _of_thousand(saving: Bounds, prices: Prices) -> str:
    value, low, high = (f"{1000 * end:,.3g}" for end in (saving.value, saving.low, saving.high))
    return f"{value} {prices.currency} (bounds {low} to {high})"
