"""Simulate many models on the same test rows and measure what the corrections for that are worth.

    python -m benchmarks.looks

The benchmark measures wrong verdicts and needless replacements of the champion. An arm answers a
row correctly if a normal number lies below the arm's threshold. The difficulty of the row, which
all arms share, makes up `SHARED` of that number's variance. The functions of the stages judge the
answers.
"""

from collections.abc import Iterator

import numpy as np
from scipy.stats import norm

from stages.core.entrypoint import tool_main
from stages.core.statistics.bounds import correct_for_looks, difference
from stages.core.statistics.scores import Scores

SERIES = 1000
MODELS = 20
ROWS = 300
SHARED = 0.8  # share of the variance that comes from the row's difficulty
MARGIN = 0.02
CONFIDENCE = 0.95


def draw(rng: np.random.Generator, rates: list[float]) -> Iterator[Scores]:
    """Yield the scores of arms that answer these shares of the same rows correctly."""
    difficulty = rng.normal(size=ROWS) * np.sqrt(SHARED)
    for rate in rates:
        right = difficulty + rng.normal(size=ROWS) * np.sqrt(1 - SHARED) < norm.ppf(rate)
        yield Scores(np.column_stack([right, np.ones(ROWS)]).astype(float))


def judge_series() -> dict[str, float]:
    """Measure the share of series in which some model gets a wrong `fine-tune`.

    Each model gains exactly the margin, so every `fine-tune` is wrong.
    """
    rng = np.random.default_rng(0)
    confidences = {
        "plain bounds": lambda place: CONFIDENCE,
        "divided by the place of each look": lambda place: correct_for_looks(CONFIDENCE, place),
        "divided by the number of all looks": lambda place: correct_for_looks(CONFIDENCE, MODELS),
    }
    wrong = dict.fromkeys(confidences, 0)
    for _ in range(SERIES):
        rival, *tuned = draw(rng, [0.55] + [0.55 + MARGIN] * MODELS)
        for name, confidence in confidences.items():
            bounds = (difference(t, rival, confidence(k)).bound_low for k, t in enumerate(tuned, 1))
            wrong[name] += any(bound > MARGIN for bound in bounds)
    return {name: count / SERIES for name, count in wrong.items()}


def replace_champions() -> dict[str, tuple[float, float]]:
    """Measure how often the first of equally good models loses its place as champion.

    Returns:
        For each rule, the share of series in which the champion was replaced, and the mean rise of
        the champion's value.
    """
    rng = np.random.default_rng(0)
    rules = {
        "value at least the champion's": lambda place, new, old: new.value >= old.value,
        "plain lower bound above 0": lambda place, new, old: (
            difference(new, old, CONFIDENCE).bound_low > 0
        ),
        "lower bound of the look above 0": lambda place, new, old: (
            difference(new, old, correct_for_looks(CONFIDENCE, place)).bound_low > 0
        ),
    }
    replaced = dict.fromkeys(rules, 0)
    risen = dict.fromkeys(rules, 0.0)
    for _ in range(SERIES):
        first, *others = draw(rng, [0.7] * MODELS)
        for name, beats in rules.items():
            champion = first
            for place, model in enumerate(others, 2):
                if beats(place, model, champion):
                    champion = model
            replaced[name] += champion is not first
            risen[name] += champion.value - first.value
    return {name: (replaced[name] / SERIES, risen[name] / SERIES) for name in rules}


@tool_main("looks")
def main() -> None:
    """Print two tables in Markdown."""
    lines = [
        f"{SERIES:,} series of {MODELS} models, {ROWS} rows",
        "",
        "| bounds | some wrong `fine-tune` |",
        "|---|---:|",
    ]
    lines += [f"| {name} | {share:.1%} |" for name, share in judge_series().items()]
    lines += ["", "| rule | champion replaced | its value rises by |", "|---|---:|---:|"]
    lines += [
        f"| {name} | {share:.1%} | {rise:+.4f} |"
        for name, (share, rise) in replace_champions().items()
    ]
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
