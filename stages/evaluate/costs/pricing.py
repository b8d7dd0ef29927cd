"""Price the requests of each arm in several scenarios from the same measurements."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.core.config.arms import REMOTE_ARM
from stages.core.config.evaluate import Prices, TokenPrices
from stages.core.data.predictions import Prediction
from stages.evaluate.costs.timings import BASE, Rates, Rounds

FORMULAS = {
    "batches": "This machine is paid by the hour, answers {machine.batch_size} requests at a time "
    "and is always busy. The cost is the price of a second × (computed prompt tokens + prompt "
    "tokens shared by all requests + answer tokens, each × its measured seconds). A prefix that "
    "all prompts share is computed once for all of them.",
    "server": "A server on this machine answers {machine.concurrent_requests} requests at the same "
    "time, is used in {utilization} of its hours and has no prefix cache. The cost is the price of "
    "a second × (all prompt tokens + answer tokens, each × its measured seconds) / "
    "{machine.utilization}.",
    "server_prefix_cache": "The same server has a prefix cache. The common prefix of all prompts "
    "of an arm is reused and costs the measured seconds of reuse.",
    "tokens": "A price list sets a price per million for input tokens, cached input tokens (a "
    "common prefix of at least {tokens.min_cached_tokens:,} tokens) and output tokens. Tuned arms "
    "have a price list of their own.",
}
"""The explanation of each scenario in the report. `{…}` are keys of `evaluate.prices`."""
PREFIX_CACHED = ("batches", "server_prefix_cache")

Costs = np.ndarray
"""The cost of each request, shape (repeats, rows).

There is one repeat if the cost does not depend on the time of this machine.
"""


def describe_prices(prices: Prices) -> dict[str, str]:
    """Explain each scenario with its numbers."""
    share = f"{prices.machine.utilization:.0%}"
    fields = {"machine": prices.machine, "tokens": prices.tokens, "utilization": share}
    return {name: text.format(**fields) for name, text in FORMULAS.items()}


def price_requests(
    scenario: str,
    prices: Prices,
    answers: Sequence[Prediction],
    timings: Mapping[str, Rounds],
    *,
    tuned: bool,
) -> Costs | None:
    """Price each request of an arm.

    The arm `remote` is paid by its own price list in every scenario. A model-free arm has no tokens
    at all and costs the seconds that its answers took on the machine that answers.

    The time of a request is assumed to be linear in its numbers of tokens, as in common models of
    serving. Prefill is limited by arithmetic and a decoding step by memory (Pope et al., 2023,
    "Efficiently Scaling Transformer Inference"). Queues, the padding of batches and rows that wait
    for longer ones are left out.

    Args:
        scenario: A key of `FORMULAS`, which has the formula.
        prices: The section of the configuration.
        answers: The answers of one arm.
        timings: The rounds of rates. Arms with a model of another kind have an entry by name, and
            all other arms use `BASE`.
        tuned: Whether the arm was trained.

    Returns:
        The costs; None if they are unknown because an endpoint did not report its tokens.
    """
    arm = answers[0].arm
    if arm == REMOTE_ARM:
        known = all(answer.prompt_tokens for answer in answers)
        return _by_list(prices.remote, answers, prices.tokens.min_cached_tokens) if known else None
    if not any(answer.prompt_tokens + answer.completion_tokens for answer in answers):
        return np.array([[answer.seconds for answer in answers]]) * _second(prices)
    if scenario == "tokens":
        paid = prices.tokens.tuned if tuned else prices.tokens.base
        return _by_list(paid, answers, prices.tokens.min_cached_tokens)
    level = "batches" if scenario == "batches" else "server"
    used = 1.0 if scenario == "batches" else prices.machine.utilization
    rounds = timings.get(arm, timings[BASE])
    seconds = [_seconds(one[level], answers, cached=scenario in PREFIX_CACHED) for one in rounds]
    return np.array(seconds) * _second(prices) / used


def _second(prices: Prices) -> float:
    return prices.machine.per_hour / 3600


def _seconds(rates: Rates, answers: Sequence[Prediction], *, cached: bool) -> np.ndarray:
    """Compute the seconds of the whole machine for each request, shape (rows,)."""
    prompt, output, shared = _count(answers)
    shared = shared if cached else np.zeros_like(shared)
    context = prompt + output / 2  # the mean over the answer's tokens
    reading = rates.prompt_token * (prompt - shared) + rates.cached_token * shared
    return reading + output * (rates.output_token + rates.output_token_context * context)


def _by_list(paid: TokenPrices, answers: Sequence[Prediction], min_cached: int) -> np.ndarray:
    prompt, output, shared = _count(answers)
    shared = np.where(shared >= min_cached, shared, 0)
    amounts: Any = (
        paid.per_million_input_tokens * (prompt - shared)
        + paid.per_million_cached_input_tokens * shared
        + paid.per_million_output_tokens * output
    )
    return amounts[None] / 1e6


def _count(answers: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the tokens of prompts, answers and the common prefix, each with the shape (rows,)."""
    counted = [(a.prompt_tokens, a.completion_tokens, a.shared_prompt_tokens) for a in answers]
    prompt, output, shared = np.array(counted, float).T
    return prompt, output, shared
