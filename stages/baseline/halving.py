"""Successive halving: many candidates on few rows, the better half of them on twice as many, until few have seen all.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", 2016.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_ROWS = 12  # fewer rows tell good from bad by luck alone


@dataclass(frozen=True, slots=True)
class Cost:
    """What a candidate takes, in tokens that the model processes."""

    prefix: float
    """What all its prompts begin with, computed once each time that it is asked."""
    row: float
    """Of each row: the rest of the prompt, and the answer."""

    def of(self, rows: int) -> float:
        """The tokens of asking so many rows at once."""
        return self.prefix + rows * self.row if rows else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Which candidates are tried, and on how many rows."""

    candidates: list[int]
    """Their indices."""
    rungs: list[tuple[int, int]]
    """For each round how many candidates are left, and on how many rows, those of the round before included."""
    tokens: float
    """At most, if the costs are right: as if the costliest candidates were always the better ones."""


def make_plan(costs: Sequence[Cost], essential: int, rows: int, budget: float) -> Plan:
    """The largest search that the budget affords.

    What it does not afford is left out in this order: the later candidates beyond the first `essential` ones; the
    costliest candidates, down to two; rows, down to `FIRST_ROWS`.

    Args:
        costs: of each candidate.
        essential: how many candidates come before draws and orders are varied.
        rows: that may be asked.
        budget: tokens.
    """
    chosen = list(range(len(costs)))
    while True:
        rungs = _get_rungs(len(chosen), rows)
        tokens = _get_tokens([costs[i] for i in chosen], rungs)
        if tokens <= budget or len(chosen) == 1:
            return Plan(chosen, rungs, tokens)
        if len(chosen) > essential:
            chosen.pop()
        elif len(chosen) > 2:  # noqa: PLR2004
            chosen.remove(max(chosen, key=lambda i: costs[i].of(rows)))
        elif rows > FIRST_ROWS:
            rows = max(FIRST_ROWS, rows // 2)
        else:
            chosen.pop()


def _get_rungs(candidates: int, rows: int) -> list[tuple[int, int]]:
    """Rounds that halve the candidates down to two, as many as leave `FIRST_ROWS` rows to the first round."""
    halvings = max((candidates - 1).bit_length() - 1, 0)
    while halvings and rows >> halvings < FIRST_ROWS:
        halvings -= 1
    return [(-(-candidates >> i), -(-rows >> (halvings - i))) for i in range(halvings + 1)]


def _get_tokens(costs: Sequence[Cost], rungs: Sequence[tuple[int, int]]) -> float:
    tokens = 0.0
    before = 0
    for count, rows in rungs:
        left = sorted((cost.of(rows - before) for cost in costs), reverse=True)
        tokens += sum(left[:count])
        before = rows
    return tokens
