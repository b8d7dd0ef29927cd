"""Derive the verdict from scores, for all training seeds together and for each seed alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from stages.core.config.arms import MODEL_FREE_ARMS
from stages.core.config.schema import Config
from stages.core.statistics.bounds import Spread, compare, measure
from stages.core.statistics.scores import Scores
from stages.evaluate.analysis.arms import Field, Rule
from stages.evaluate.analysis.claims import Verdict
from stages.evaluate.analysis.comparisons import Comparison, describe_pair
from stages.evaluate.analysis.verdict import decide

Pair = tuple[str, str]
Runs = Mapping[str, Mapping[str, Sequence[Scores]]]
"""Arm -> metric -> the scores of each run."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Sort the arms that the verdict compares."""

    model_free: tuple[str, ...]
    prompted: tuple[str, ...]
    tuned: tuple[str, ...]

    @classmethod
    def of(cls, answered: Sequence[str], tuned: Sequence[str]) -> "Contest":
        """Sort the arms of `baseline` into model-free and prompted ones."""
        free = tuple(arm for arm in MODEL_FREE_ARMS if arm in answered)
        return cls(free, tuple(arm for arm in answered if arm not in free), tuple(tuned))

    @property
    def untuned(self) -> tuple[str, ...]:
        """List the alternatives to tuning."""
        return (*self.model_free, *self.prompted)

    @property
    def arms(self) -> tuple[str, ...]:
        """List all arms."""
        return (*self.untuned, *self.tuned)


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold the verdict and the comparisons behind it."""

    verdict: Verdict
    comparisons: list[Comparison]
    seeds: list[Verdict]
    """The verdict of each training seed alone; empty if there is only one seed."""
    bound_confidence: float
    """The confidence of the lower bounds of tuned arms."""


def judge(
    config: Config,
    contest: Contest,
    runs: Runs,
    groups: np.ndarray | None,
    *,
    uncut: Mapping[str, Sequence[Scores]] | None = None,
    looks: int = 1,
    cost: Mapping[str, float] | None = None,
    cheaper: Mapping[Pair, bool] | None = None,
) -> Judged:
    """Compare the arms and decide.

    Args:
        config: The configuration, which has the metrics, the margin and the confidence.
        contest: The arms that the verdict compares.
        runs: The scores of the arms.
        groups: The group of each row, see `stages.core.data.groups`.
        uncut: Arm -> the scores of each run by the primary metric with cut answers counted as
            right, see `stages.evaluate.analysis.truncation`. Arms without such answers are left
            out.
        looks: The divisor of alpha that corrects for the looks at these rows.
        cost: The cost of a request of each arm.
        cheaper: Whether a tuned arm is cheaper than a prompted one, see
            `stages.evaluate.analysis.arms.Field`.
    """
    settings = config.evaluate
    rows = len(runs[contest.arms[0]][settings.primary_metric][0].rows)
    rule = Rule(
        settings.margin,
        settings.confidence,
        settings.min_useful_value,
        config.checks.min_test_rows,
        looks,
    )

    def get_field(chosen: Runs) -> Field:
        primary = {arm: chosen[arm][settings.primary_metric] for arm in contest.arms}
        values = {arm: measure(scores, groups) for arm, scores in primary.items()}
        spreads = _compare_all(primary, groups)
        return _get_field(contest, values, spreads, cost, cheaper)

    unknown = uncut if uncut and settings.cut_answers == "unknown" else {}
    others = _count_cut_as_right(contest, runs, settings.primary_metric, unknown)
    field = get_field(runs)
    verdict = decide(field, rule, rows, {who: get_field(found) for who, found in others.items()})
    count = max(len(runs[arm][settings.primary_metric]) for arm in contest.tuned)
    alone = []
    for seed in range(count if count > 1 else 0):
        of_seed = {
            who: get_field(_take(found, contest.tuned, seed)) for who, found in others.items()
        }
        alone.append(decide(get_field(_take(runs, contest.tuned, seed)), rule, rows, of_seed))
    bound_confidence = rule.get_tuned_confidence(len(contest.tuned))
    comparisons = _describe(config, contest, runs, field.spreads, groups, rows, bound_confidence)
    return Judged(verdict, comparisons, alone, bound_confidence)


def _count_cut_as_right(
    contest: Contest, runs: Runs, metric: str, uncut: Mapping[str, Sequence[Scores]]
) -> dict[str, Runs]:
    """Count cut answers as right for the prompted arms, for the tuned arms, and for both."""
    prompted = [arm for arm in contest.prompted if arm in uncut]
    tuned = [arm for arm in contest.tuned if arm in uncut]
    groups = {"the prompted arms": prompted, "the tuned arms": tuned}
    if prompted and tuned:
        groups["all arms"] = [*prompted, *tuned]
    return {
        who: {**runs, **{arm: {**runs[arm], metric: uncut[arm]} for arm in arms}}
        for who, arms in groups.items()
        if arms
    }


def _get_field(
    contest: Contest,
    values: Mapping[str, Spread],
    spreads: Mapping[Pair, Spread],
    cost: Mapping[str, float] | None,
    cheaper: Mapping[Pair, bool] | None,
) -> Field:
    return Field(
        contest.model_free,
        contest.prompted,
        contest.tuned,
        values,
        spreads,
        cheaper or {},
        cost or {},
    )


def _compare_all(
    primary: Mapping[str, Sequence[Scores]], groups: np.ndarray | None
) -> dict[Pair, Spread]:
    """Compare every pair of arms. One direction is computed and the other is its mirror."""
    spreads: dict[Pair, Spread] = {}
    for second, first in combinations(primary, 2):
        found = compare(primary[first], primary[second], groups)
        spreads[first, second] = found
        spreads[second, first] = replace(found, value=-found.value, centre=-found.centre)
    return spreads


def _take(runs: Runs, tuned: Sequence[str], seed: int) -> Runs:
    """Keep one seed of the tuned arms; an arm with fewer seeds keeps its last one."""
    return {
        arm: {
            name: [found[min(seed, len(found) - 1)]] if arm in tuned else found
            for name, found in of_metric.items()
        }
        for arm, of_metric in runs.items()
    }


def _describe(
    config: Config,
    contest: Contest,
    runs: Runs,
    spreads: Mapping[Pair, Spread],
    groups: np.ndarray | None,
    rows: int,
    bound_confidence: float,
) -> list[Comparison]:
    """Describe the comparisons that the report shows.

    Tuned arms are compared with all others by every metric. Prompted and model-free arms are
    compared with each other by the primary metric.
    """
    settings = config.evaluate
    found = []
    for metric in settings.metrics:
        primary = metric == settings.primary_metric
        pairs = [(arm, other) for arm in contest.tuned for other in contest.untuned]
        if primary:
            pairs += [(arm, other) for arm in contest.prompted for other in contest.model_free]
            pairs += [(arm, contest.model_free[0]) for arm in contest.model_free[1:]]
        pairs = [
            (arm, other) for arm, other in pairs if metric in runs[arm] and metric in runs[other]
        ]
        for pair in pairs:
            spread = (
                spreads[pair]
                if primary
                else compare(runs[pair[0]][metric], runs[pair[1]][metric], groups)
            )
            tuned = pair[0] in contest.tuned
            found.append(
                describe_pair(
                    pair,
                    metric,
                    spread,
                    margin=settings.margin if primary else 0.0,
                    confidence=settings.confidence,
                    low_confidence=bound_confidence if tuned else settings.confidence,
                    rows=rows,
                )
            )
    return found
