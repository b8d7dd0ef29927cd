"""Measure how often each verdict is wrong, on simulated test sets with a known truth.

    python -m benchmarks.verdict [TEST_SETS]

The code of `evaluate` judges the test sets. Every case has seven arms that share the difficulty of
the rows: `constant`, `nearest`, four prompted arms and `tuned`. The benchmark prints the share of
each verdict and the share of wrong verdicts, which should be at most 5 %. A verdict is wrong if the
truth contradicts its claim. If the true gain equals the margin, both `fine-tune` and `prompt` are
wrong, and these cases are the hardest ones. Writes `benchmarks/results/verdict.json`.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
from omegaconf import OmegaConf
from tqdm import tqdm

from benchmarks.simulation import Case, draw, get_groups
from benchmarks.table import show
from stages.core.config.arms import BASE_ARMS, TUNED_ARM
from stages.core.config.register import Answer
from stages.core.entrypoint import tool_main
from stages.core.statistics.bounds import compare, measure
from stages.core.statistics.scores import Scores
from stages.evaluate.analysis.arms import Field, Rule
from stages.evaluate.analysis.verdict import decide

RESULT = Path("benchmarks/results/verdict.json")
SIZES = (20, 30, 50, 100, 300)
FREE = ("constant", "nearest")


@tool_main("verdict")
def main() -> None:
    """Simulate every case, write the results and print them as a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    settings = OmegaConf.load("params.yaml").evaluate
    rule = Rule(settings.margin, settings.confidence)
    table = [
        simulate(case, rule, count) for case in tqdm(list(get_cases(rule.margin)), desc="cases")
    ]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(
        json.dumps({"test_sets": count, "margin": rule.margin, "table": table}, indent=2)
    )
    show(table)


def get_cases(margin: float) -> Iterator[Case]:
    """Yield every case, the hard ones in several sizes."""
    for rows in SIZES:
        yield Case("no gain, equal prompts", arms(0.55, 0.55, 0.55, 0.55), rows)
        yield Case("gain is the margin, equal prompts", arms(0.55, 0.55, 0.55, 0.55 + margin), rows)
        yield Case(
            "gain is the margin, one strong prompt", arms(0.02, 0.55, 0.45, 0.55 + margin), rows
        )
        yield Case(
            "gain is the margin, all near 0",
            arms(0.01, 0.03, 0.02, 0.03 + margin, free=(0.005, 0.005)),
            rows,
        )
        yield Case("gain is the margin, all near 1", arms(0.3, 0.96, 0.9, 0.96 + margin), rows)
        yield Case("gain 0.05 near 1", arms(0.3, 0.93, 0.9, 0.98), rows)
        yield Case("gain 0.10, equal prompts", arms(0.55, 0.55, 0.55, 0.65), rows)
        yield Case("gain 0.10, one strong prompt", arms(0.02, 0.55, 0.45, 0.65), rows)
        yield Case("nothing works", arms(0.01, 0.01, 0.01, 0.01, free=(0.01, 0.01)), rows)
        yield Case(
            "margin above the constant", arms(0.3, 0.5, 0.5, 0.58 + margin, free=(0.58, 0.4)), rows
        )
        yield Case("margin above nearest", arms(0.3, 0.5, 0.5, 0.7 + margin, free=(0.3, 0.7)), rows)
        yield Case("nearest is best", arms(0.3, 0.5, 0.5, 0.6, free=(0.3, 0.8)), rows)
    for metric, strong in (("micro_f1", 0.5), ("macro_f1", 0.5), ("skewed", 0.05)):
        for rows in SIZES[1:]:
            truth = arms(strong / 3, strong, strong / 2, strong + margin, free=(0.004, 0.004))
            yield Case(f"gain is the margin, {metric}", truth, rows, metric=metric)
    for groups in (60, 30, 10, 5):
        yield Case(
            f"gain is the margin, {groups} groups",
            arms(0.02, 0.55, 0.45, 0.55 + margin),
            groups=groups,
        )
    for groups in (30, 10, 5):
        yield Case(
            f"gain is the margin, all near 0, {groups} groups of equal rows",
            arms(0.01, 0.03, 0.02, 0.03 + margin, free=(0.005, 0.005)),
            groups=groups,
            alike=True,
        )
    for looks in (4, 20):
        yield Case(
            f"gain is the margin, best of {looks}",
            arms(0.02, 0.55, 0.45, 0.55 + margin),
            looks=looks,
        )
    for seeds in (1, 3, 5):
        truth = arms(0.02, 0.55, 0.45, 0.55 + margin)
        yield Case(
            f"gain is the margin, luck of training 0.03, {seeds} seeds",
            truth,
            luck=0.03,
            seeds=seeds,
        )


def arms(*values: float, free: tuple[float, float] = (0.3, 0.35)) -> dict[str, float]:
    """Return the true value of every arm.

    `constrained` is as good as `retrieval`, because it differs only in the form of its answers.

    Args:
        values: The values of the prompted arms except `constrained`, then the value of `tuned`.
        free: The values of the arms without a model.
    """
    *prompted, tuned = values
    return dict(
        zip((*FREE, *BASE_ARMS, TUNED_ARM), (*free, *prompted, prompted[-1], tuned), strict=True)
    )


def simulate(case: Case, rule: Rule, count: int) -> dict[str, str | int | float]:
    """Simulate a case and return the share of each verdict and of wrong verdicts."""
    random = np.random.default_rng(42)
    verdicts: Counter[str] = Counter()
    for _ in range(count):
        verdicts[judge(case, draw(case, random), rule)] += 1
    shares = {verdict: verdicts[verdict] / count for verdict in get_args(Answer)}
    wrong = {
        verdict: share
        for verdict, share in shares.items()
        if is_wrong(verdict, case.truth, rule.margin)
    }
    return {
        "case": case.name,
        "rows": case.rows,
        **shares,
        "wrong": max(wrong.values(), default=0.0),
    }


def judge(case: Case, runs: dict[str, list[Scores]], rule: Rule) -> str:
    """Return the verdict on one test set."""
    groups = get_groups(case)
    names = list(case.truth)
    pairs = [(a, b) for b, a in combinations(names, 2)] + list(combinations(BASE_ARMS, 2))
    spreads = {(a, b): compare(runs[a], runs[b], groups) for a, b in pairs}
    values = {arm: measure(found, groups) for arm, found in runs.items()}
    field = Field(FREE, BASE_ARMS, [TUNED_ARM], values, spreads)
    counted = Rule(rule.margin, rule.confidence, looks=case.looks)
    return decide(field, counted, case.rows).verdict


def is_wrong(verdict: str, truth: Mapping[str, float], margin: float) -> bool:
    """Return whether the truth contradicts the claim of the verdict."""
    slack = 1e-9  # a gain of exactly the margin is neither above nor below it
    constant = truth["constant"]
    nearest = truth["nearest"]
    tuned = truth[TUNED_ARM]
    prompted = max(truth[arm] for arm in BASE_ARMS)
    best_free = max(constant, nearest)
    return {
        "fine-tune": tuned - max(prompted, best_free) <= margin + slack,
        "prompt": tuned - prompted >= margin - slack or prompted - best_free <= margin + slack,
        "no-model": max(prompted, tuned) - nearest >= margin - slack
        or nearest - constant <= margin + slack,
        "neither": max(nearest, prompted, tuned) - constant >= margin - slack,
        "not-enough-evidence": False,
    }[verdict]


if __name__ == "__main__":
    main()
