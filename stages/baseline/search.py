"""Search for the best prompt of an arm on validation rows.

The test split decides only the verdict.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from stages.baseline.asking import Asker
from stages.baseline.candidates import Candidate
from stages.baseline.halving import Cost, Plan, make_plan
from stages.core.config.schema import Config
from stages.core.data.predictions import Prediction, summarize_predictions
from stages.core.data.records import Record
from stages.core.metrics.metrics import Metrics

# Budget `cheap`: this many times the tokens that all essential candidates take on all rows.
CHEAP = 2


@dataclass(frozen=True, slots=True)
class Trial:
    """The score of a candidate on some validation rows."""

    candidate: Candidate
    rows: int
    score: float
    """The primary metric on these rows."""
    prompt_tokens: float
    """Mean prompt tokens per row."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The best candidate of an arm, and how the search found it."""

    candidate: Candidate
    candidates: int
    """The number of candidates of the arm. The budget did not cover those that were not tried."""
    rows: int = 0
    """Validation rows on which the choice was made, or 0 if there was nothing to choose."""
    trials: list[Trial] = field(default_factory=list)
    budget: float | None = None
    """Tokens that the model might process, or None if there was nothing to choose."""
    tokens: float = 0.0
    """Tokens that the model processed. A prefix shared by the prompts counts once per call."""
    seconds: float = 0.0
    """Duration of the search on this machine."""

    def describe(self) -> dict[str, Any]:
        """Return the choice as it stands in `predictions/choices.json`."""
        flat = [asdict(trial) for trial in self.trials]
        trials = [{**trial.pop("candidate"), **trial} for trial in flat]
        found = {**asdict(self), "trials": trials, "spread": get_spread(self.trials)}
        return {**found.pop("candidate"), **found}


def search(
    config: Config,
    asker: Asker,
    arm: str,
    candidates: Sequence[Candidate],
    validation: Sequence[Record],
    budget: int | None,
    essential: int,
) -> Choice:
    """Choose the best candidate of an arm by successive halving.

    If candidates have equal scores, the one with the shorter prompt wins.

    Args:
        config: The configuration, for the metric, the number of rows and the seed.
        asker: Asks the model.
        arm: The name of the arm.
        candidates: The candidates, the more important ones first.
        validation: The validation split.
        budget: Tokens that the model may process. None means `CHEAP` times the tokens of the
            essential candidates.
        essential: How many candidates come before those that vary draws and orders.
    """
    if len(candidates) == 1 or not validation:
        return Choice(candidates[0], len(candidates))
    started = time.perf_counter()
    most = min(config.prompt.search.selection_rows or len(validation), len(validation))
    # A sample, because the first rows of the split all come from the first source.
    rows = random.Random(config.seed).sample(list(validation), most)
    costs = [asker.get_cost(candidate, rows) for candidate in candidates]
    limit = budget or CHEAP * sum(cost.of(most) for cost in costs[:essential])
    plan = make_plan(costs, essential, most, limit)
    if len(plan.candidates) == 1:
        return Choice(candidates[plan.candidates[0]], len(candidates), budget=limit)
    run = _Run(_get_score(config), asker, arm, rows)
    best = run.halve(plan, candidates, costs)
    seconds = time.perf_counter() - started
    return Choice(best, len(candidates), plan.rungs[-1][1], run.trials, limit, run.tokens, seconds)


class _Run:
    """The state of a running search."""

    def __init__(
        self, score: Callable[..., float], asker: Asker, arm: str, rows: Sequence[Record]
    ) -> None:
        self._score = score
        self._asker = asker
        self._arm = arm
        self._rows = rows
        self.trials: list[Trial] = []
        self.tokens = 0.0

    def halve(
        self, plan: Plan, candidates: Sequence[Candidate], costs: Sequence[Cost]
    ) -> Candidate:
        """Carry out the plan and return the best candidate."""
        answers: dict[int, list[Prediction]] = {i: [] for i in plan.candidates}
        ranked = plan.candidates
        for count, rows in plan.rungs:
            tried = {}
            for i in ranked[:count]:
                new = self._asker(self._arm, candidates[i], self._rows[len(answers[i]) : rows])
                self.tokens += costs[i].prefix + sum(
                    p.prompt_tokens - costs[i].prefix + p.completion_tokens for p in new
                )
                answers[i] += new
                score = self._score(answers[i], self._rows[:rows])
                tried[i] = Trial(
                    candidates[i], rows, score, summarize_predictions(answers[i])["prompt_tokens"]
                )
            self.trials += tried.values()
            ranked = sorted(tried, key=lambda i: (-tried[i].score, tried[i].prompt_tokens, i))
        return candidates[ranked[0]]


def _get_score(config: Config) -> Callable[[Sequence[Prediction], Sequence[Record]], float]:
    primary = config.evaluate.primary_metric
    metrics = Metrics([primary], config.evaluate.options, primary)
    return lambda answers, rows: metrics.score_records(answers, rows)[primary].value


def get_spread(trials: Sequence[Trial]) -> dict[str, dict[str, Any] | None]:
    """Measure how much the choice and order of examples alone change the score in the first round.

    Returns:
        Under `order`, the widest score range between the two orders of the same examples. Under
        `examples`, the widest range between all draws and orders of one instruction and number of
        examples. Each is a dictionary with `shots`, `rows`, `min`, `max` and `candidates`, or None
        if nothing was varied.
    """
    first = [trial for trial in trials if trial.rows == trials[0].rows]
    return {
        "order": _get_widest(
            first, lambda c: (c.instruction, c.examples, c.shots, c.draw, c.balanced)
        ),
        "examples": _get_widest(first, lambda c: (c.instruction, c.examples, c.shots)),
    }


def _get_widest(trials: Iterable[Trial], same: Callable[[Candidate], Any]) -> dict[str, Any] | None:
    groups: dict[Any, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(same(trial.candidate), []).append(trial)
    ranges = [
        {
            "shots": group[0].candidate.shots,
            "rows": group[0].rows,
            "min": min(trial.score for trial in group),
            "max": max(trial.score for trial in group),
            "candidates": len(group),
        }
        for group in groups.values()
        if len(group) > 1
    ]
    return max(ranges, key=lambda found: found["max"] - found["min"], default=None)
