"""Plan a search by successive halving.

Each round tries the better half of the candidates on twice as many rows, until few candidates have
seen all rows. See Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and
Hyperparameter Optimization", 2016.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_ROWS = 12  # with fewer rows, luck decides which candidate looks better


@dataclass(frozen=True, slots=True)
class Cost:
    """The tokens that the model processes for a candidate."""

    prefix: float
    """Tokens of the common prefix of all prompts, computed once per call."""
    row: float
    """Tokens of each row: the rest of its prompt and its answer."""

    def of(self, rows: int) -> float:
        """Return the tokens of asking this many rows in one call."""
        return self.prefix + rows * self.row if rows else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Which candidates the search tries, and on how many rows."""

    candidates: list[int]
    """Indices of the candidates."""
    rungs: list[tuple[int, int]]
    """For each round, how many candidates remain and on how many rows they are scored in total."""
    tokens: float
    """The tokens that the plan takes at most, if the costs are right.

    This assumes that the costliest candidates survive every round.
    """


def make_plan(costs: Sequence[Cost], essential: int, rows: int, budget: float) -> Plan:
    """Plan the largest search that the budget affords.

    If the budget is too small, the plan first drops the candidates after the first `essential`
    ones, from the end. It then drops the costliest candidates until two are left. It then halves
    the rows down to `FIRST_ROWS`. If even that is too much, it keeps one candidate.

    Args:
        costs: The cost of each candidate.
        essential: How many candidates come before those that vary draws and orders.
        rows: How many rows may be asked.
        budget: The number of tokens that the model may process.
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
    """Halve the candidates down to two, with at least `FIRST_ROWS` rows in the first round."""
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
