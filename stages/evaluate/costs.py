"""What training cost, what a request costs in each arm, and when the one has paid for the other."""

from dataclasses import dataclass

from stages.core.config import Prices


@dataclass(frozen=True, slots=True)
class Costs:
    """Amounts in `currency`."""

    currency: str
    training: float
    per_request: dict[str, float]
    """For each arm: seconds a request on this machine at its hourly price."""
    break_even_requests: int | None
    """Requests after which the tuned model has paid for its training; null where it is not the cheaper one."""
    break_even_reason: str


def get_costs(
    prices: Prices, training_seconds: float, seconds_per_request: dict[str, float], tuned: str, alternative: str
) -> Costs:
    """Costs from measured seconds.

    Args:
        prices: of an hour of this machine.
        training_seconds: of the training alone.
        seconds_per_request: for each arm.
        tuned: the tuned arm's name.
        alternative: the arm that would be used instead.
    """
    second = prices.machine_hour / 3600
    per_request = {arm: seconds * second for arm, seconds in seconds_per_request.items()}
    training, saving = training_seconds * second, per_request[alternative] - per_request[tuned]
    if saving <= 0:
        requests = None
        reason = f"never: a request of the tuned model costs no less than one of {alternative}"
    else:
        requests = round(training / saving) if training else 0
        reason = f"training costs as much as {requests:,} requests save against {alternative}"
    return Costs(prices.currency, training, per_request, requests, reason)
