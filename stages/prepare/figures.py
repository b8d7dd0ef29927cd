"""Figures about the data: distributions, and OpenAI's rules for epochs and billed tokens."""

from array import array
from typing import Any

import numpy as np

from stages.prepare.tokens import TokenCheck

# "Data preparation and analysis for chat model fine-tuning", OpenAI cookbook.
TARGET_EPOCHS, MIN_EPOCHS, MAX_EPOCHS = 3, 1, 25
MIN_EXAMPLES, MAX_EXAMPLES = 100, 25_000


def describe(tokens: TokenCheck, limit: int) -> dict[str, Any]:
    """What a person wants to know of the data before training.

    Args:
        tokens: after it has looked at every record.
        limit: tokens a row may have; OpenAI bills no more of a longer one.
    """
    total = np.frombuffer(tokens.total, np.uintc) if tokens.total else np.zeros(0, np.uintc)
    epochs = cookbook_epochs(len(total))
    billed = int(np.minimum(total, limit).sum())
    return {
        "messages": distribution(tokens.messages),
        "tokens": distribution(tokens.total),
        "trained_tokens": distribution(tokens.trained),
        "without_system": tokens.without_system,
        "without_user": tokens.without_user,
        "over_limit": tokens.over_limit,
        "truncated": tokens.truncated,
        "cookbook": {"epochs": epochs, "billed_tokens_per_epoch": billed, "billed_tokens": epochs * billed},
    }


def cookbook_epochs(rows: int) -> int:
    """The epochs that OpenAI chooses by default for so many rows."""
    if rows * TARGET_EPOCHS < MIN_EXAMPLES:
        return min(MAX_EPOCHS, MIN_EXAMPLES // max(rows, 1))
    if rows * TARGET_EPOCHS > MAX_EXAMPLES:
        return max(MIN_EPOCHS, MAX_EXAMPLES // rows)
    return TARGET_EPOCHS


def distribution(values: "array[int]") -> dict[str, float]:
    """Sum, extremes, mean and quantiles."""
    if not values:
        return {}
    found = np.frombuffer(values, np.uintc)
    p5, median, p95 = np.quantile(found, [0.05, 0.5, 0.95]).tolist()
    ends = {"min": int(found.min()), "max": int(found.max())}
    return {"sum": int(found.sum()), **ends, "mean": float(found.mean()), "median": median, "p5": p5, "p95": p95}


def table(figures: dict[str, Any]) -> str:
    """The figures for a terminal."""
    lines = [f"{'':<16}{'min':>8}{'p5':>8}{'median':>8}{'mean':>10}{'p95':>8}{'max':>8}{'sum':>14}"]
    for name in ("messages", "tokens", "trained_tokens"):
        if d := figures[name]:
            lines.append(
                f"{name.replace('_', ' '):<16}{d['min']:>8,}{d['p5']:>8,.0f}{d['median']:>8,.0f}{d['mean']:>10,.1f}"
                f"{d['p95']:>8,.0f}{d['max']:>8,}{d['sum']:>14,}"
            )
    openai = figures["cookbook"]
    lines.append(
        f"without a system message {figures['without_system']:,}, without a user message {figures['without_user']:,}, "
        f"over the limit {figures['over_limit']:,}, truncated {figures['truncated']:,}; "
        f"OpenAI would train {openai['epochs']} epochs and bill {openai['billed_tokens']:,} such tokens"
    )
    return "\n".join(lines)
