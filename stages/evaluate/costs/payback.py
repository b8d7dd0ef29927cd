"""Whether what training cost comes back, with bounds that hold the luck of the rows and the noise of the machine."""

from dataclasses import dataclass

import numpy as np

from stages.core.config.evaluate import Prices
from stages.core.statistics.bounds import measure
from stages.core.statistics.scores import Scores


@dataclass(frozen=True, slots=True)
class Bounds:
    """A mean, and on either side the end that it does not pass with the confidence asked for."""

    value: float
    low: float
    high: float

    def minus(self, amount: float) -> "Bounds":
        """All three less an amount."""
        return Bounds(self.value - amount, self.low - amount, self.high - amount)


@dataclass(frozen=True, slots=True)
class Outlay:
    """What an arm costs apart from its requests, or beyond another arm."""

    training: float
    labelling: float
    hosting_per_month: float
    prices: Prices
    training_error: float = 0.0
    """By how much `training` may be off, because the machine is not equally fast at all hours."""

    @property
    def once(self) -> float:
        """What is paid before the first request."""
        return self.training + self.labelling

    @property
    def hosting(self) -> float:
        """For each request."""
        return self.hosting_per_month / self.prices.requests_per_month

    @property
    def horizon(self) -> int:
        """Requests until it has to be paid back."""
        return self.prices.requests_per_month * self.prices.horizon_months

    def beyond(self, other: "Outlay") -> "Outlay":
        """What this one costs more than another."""
        return Outlay(
            self.training - other.training,
            self.labelling - other.labelling,
            self.hosting_per_month - other.hosting_per_month,
            self.prices,
            self.training_error + other.training_error,
        )

    def get_requests(self, saving: Bounds) -> Bounds:
        """After how many requests, each of which saves so much, what was paid once has come back.

        Args:
            saving: of a request, above zero also at its lower end.
        """
        error = self.training_error
        return Bounds(
            self.once / saving.value,
            (self.once - error) / saving.high,
            (self.once + error) / saving.low,
        )

    def is_paid_back(self, saving: Bounds) -> bool:
        """Whether the horizon pays it back for certain."""
        return saving.low > 0 and self.once + self.training_error <= self.horizon * saving.low


@dataclass(frozen=True, slots=True)
class Payback:
    """A candidate against one other arm."""

    saving: Bounds
    """Of a request, after hosting."""
    requests: int | None
    """After which what was paid once has come back; null, as are its ends, where the saving may be none."""
    low: int | None
    high: int | None
    requests_without_labelling: int | None
    sentence: str
    """The break-even, without a full stop."""
    cheaper: bool
    """Whether by its lower bound a request saves something, and the horizon pays back what was paid once."""
    reason: str


def get_bounds(values: np.ndarray, confidence: float, groups: np.ndarray | None = None) -> Bounds:
    """The mean with one-sided t bounds.

    Args:
        values: of shape (repeats, rows): the same rows in each repeat.
        confidence: of each bound.
        groups: of the rows, see `stages.core.statistics.bounds`.

    Rows and repeats are two samples, of requests and of moments of the machine, as rows and training seeds are in
    `stages.core.statistics.bounds`. Values with one repeat have no time of the machine in them. Bounds of one row,
    which has no spread to show, are infinite.
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
    """When a candidate has paid for itself against another arm.

    Args:
        saved: what each request saves, shape (repeats, rows).
        outlay: what the candidate costs beyond the other arm.
        candidate: its name.
        other: the other arm's.
        confidence: of each bound.
        groups: of the rows.
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
            return f"Break-even: at once; {candidate} costs no more to make than {other} and less to ask"
        needed = outlay.get_requests(saving)
        low, high = (f"{_whole(end):,}" for end in (needed.low, needed.high))
        return f"Break-even: after {_whole(needed.value):,} requests ({low} to {high}) instead of {other}"
    if gross.high <= 0:
        return f"Break-even: never; a {candidate} request is not cheaper than a {other} request"
    if saving.high <= 0:
        month = gross.value * prices.requests_per_month
        return (
            f"Break-even: never; hosting costs {outlay.hosting_per_month:,.2f} {prices.currency} a month, and "
            f"{prices.requests_per_month:,} requests a month save {month:,.2f} {prices.currency} against {other}"
        )
    return (
        f"Break-even: unknown; 1,000 {candidate} requests instead of {other} save {_of_thousand(saving, prices)}, so "
        "they may save nothing"
    )


def _reason(outlay: Outlay, saving: Bounds, candidate: str, other: str) -> str:
    """Why the candidate counts as cheaper than the other arm, or does not."""
    prices = outlay.prices
    hosting = " after hosting" if outlay.hosting_per_month else ""
    if saving.high <= 0:
        more = _of_thousand(Bounds(-saving.value, -saving.high, -saving.low), prices)
        return f"{candidate} is not cheaper than {other}: 1,000 requests cost {more} more{hosting}."
    if saving.low <= 0:
        save = f"save {_of_thousand(saving, prices)}{hosting}"
        return f"{candidate} is not known to be cheaper than {other}: 1,000 requests {save}."
    least = f"{outlay.horizon * saving.low:,.4g} {prices.currency}"
    time = f"{prices.horizon_months} months with {prices.requests_per_month:,} requests each save at least {least}"
    most = max(0.0, outlay.once + outlay.training_error)
    paid = f"{'at most ' if outlay.training_error else ''}{most:,.4g} {prices.currency} for training and labelling"
    if outlay.is_paid_back(saving):
        return f"{candidate} is cheaper than {other}: {time}, against {paid}."
    return f"{candidate} is not known to pay for itself against {other}: {time}, against {paid}."


def _of_thousand(saving: Bounds, prices: Prices) -> str:
    value, low, high = (f"{1000 * end:,.3g}" for end in (saving.value, saving.low, saving.high))
    return f"{value} {prices.currency} (bounds {low} and {high})"
