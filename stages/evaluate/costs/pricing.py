"""What a request costs in each arm, by several ways to pay for the same measurements."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.core.config.arms import REMOTE_ARM
from stages.core.config.evaluate import Prices, TokenPrices
from stages.core.data.predictions import Prediction
from stages.evaluate.costs.timings import BASE, Rates, Rounds

FORMULAS = {
    "batches": "This machine by the hour, {machine.batch_size} requests at a time and always busy: price of a second × "
    "(prompt tokens computed + prompt tokens shared by all requests + answer tokens, each × its measured seconds). "
    "A prefix that all prompts share is computed once for all of them.",
    "server": "A server on this machine with {machine.concurrent_requests} requests at the same time and {utilization} "
    "of its hours used, without a prefix cache: price of a second × (all prompt tokens + answer tokens, each × its "
    "measured seconds) / {machine.utilization}.",
    "server_prefix_cache": "The same server with a prefix cache: what all prompts of an arm begin with is reused, at "
    "the measured seconds of reuse.",
    "tokens": "A price list: input tokens, cached input tokens (a common prefix of at least "
    "{tokens.min_cached_tokens:,} tokens) and output tokens, each × its price for a million; tuned arms by their own "
    "list.",
}
"""How each scenario counts, as the report says it; `{…}` are keys of `evaluate.prices`."""
PREFIX_CACHED = ("batches", "server_prefix_cache")

Costs = np.ndarray
"""Currency a request, shape (repeats, rows); one repeat where no time of this machine is in it."""


def describe(prices: Prices) -> dict[str, str]:
    """Each scenario's formula with its numbers."""
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
    """What each request of an arm costs.

    Args:
        scenario: a key of `FORMULAS`, where its formula stands.
        prices: the section of the configuration.
        answers: of one arm.
        timings: rounds of rates, of arms with a model of their own kind by name and of all others under `BASE`.
        tuned: whether the arm was trained.

    Returns:
        Costs, or None where nobody knows: an endpoint did not say how many tokens it read.

    The arm `remote` is paid by its own list in every scenario. An arm without a model (no tokens at all) costs the
    seconds that its answers took on the machine that answers.

    The time of a request is taken to be linear in its numbers of tokens, as in common models of serving (prefill is
    limited by arithmetic, a decoding step by memory: Pope et al., 2023, "Efficiently Scaling Transformer Inference"):
    queues, the padding of batches, and rows that wait for longer ones are left out.
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
    """Of the whole machine for each request, shape (rows,)."""
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
    """Tokens of prompts, of answers, and of what the arm's prompts have in common, each of shape (rows,)."""
    counted = [(a.prompt_tokens, a.completion_tokens, a.shared_prompt_tokens) for a in answers]
    prompt, output, shared = np.array(counted, float).T
    return prompt, output, shared
