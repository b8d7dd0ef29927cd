"""Is the verdict calibrated? Simulated test sets, judged by the code of `evaluate`.

    python -m benchmarks.verdict [TEST_SETS]

Each simulated test set has 300 rows and four arms, the three prompted ones equally good. A row has a difficulty that
all arms share and each arm its own luck: the larger the share of difficulty, the more rows on which two arms agree,
as arms of the same base model do. Printed is, for equal arms and for a tuned arm that is 10 points better than every
prompted one, the share of verdicts `fine-tune`. At most 5 % are wanted where the arms are equal, at least 80 % where
the tuned one is better. Writes `benchmarks/results/verdict.json`.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from scipy.stats import norm
from tqdm import tqdm

from benchmarks.table import show
from stages.core.metrics import Scores
from stages.core.predictions import BASE_ARMS, TUNED_ARM
from stages.evaluate.statistics import Resampling, difference
from stages.evaluate.verdict import Comparison, decide

RESULT = Path("benchmarks/results/verdict.json")
ROWS, RIGHT, BETTER = 300, 0.55, 0.10
DIFFICULTY = (0.0, 0.5, 0.7, 0.8, 0.9)


def main() -> None:
    """Simulate every case and print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    settings = OmegaConf.load("params.yaml").evaluate
    table: list[dict[str, float]] = []
    for share in DIFFICULTY:
        equal, better = (simulate(settings, share, gain, count) for gain in (0.0, BETTER))
        table.append({"difficulty": share, "arms differ on": equal[1], "equal arms": equal[0], "10 points": better[0]})
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    facts = {"test_sets": count, "rows": ROWS, "right": RIGHT, "margin": settings.margin}
    RESULT.write_text(json.dumps({**facts, "share of fine-tune": table}, indent=2))
    show(table)


def simulate(settings: Any, difficulty: float, gain: float, count: int) -> tuple[float, float]:
    """The share of verdicts `fine-tune`, and the share of rows on which the tuned arm and a prompted one differ."""
    draws, verdicts, differ = np.random.default_rng(42), Counter(), []
    for seed in tqdm(range(count), leave=False, desc=f"{difficulty} {gain:+}"):
        shared = draws.normal(size=ROWS)
        arms = {arm: draw_arm(draws, shared, difficulty, RIGHT) for arm in BASE_ARMS}
        tuned = draw_arm(draws, shared, difficulty, RIGHT + gain)
        how = Resampling(settings.confidence, 500, seed, settings.interval).one_sided
        comparisons = []
        for arm, scores in arms.items():
            gap = difference(tuned, scores, how)
            comparisons.append(
                Comparison(TUNED_ARM, arm, "", gap.value, *[gap.ci_low, gap.ci_high] * 2, 1.0, 1.0, None)
            )
        verdicts[decide(comparisons, BASE_ARMS[0], settings.margin, settings.confidence).verdict] += 1
        differ.append(float((tuned.values != arms[BASE_ARMS[0]].values).mean()))
    return verdicts["fine-tune"] / count, float(np.mean(differ))


def draw_arm(draws: np.random.Generator, shared: np.ndarray, difficulty: float, right: float) -> Scores:
    """Right and wrong answers of one arm: a probit model with a factor that all arms share."""
    luck = draws.normal(size=len(shared))
    found = difficulty * shared + np.sqrt(1 - difficulty**2) * luck < norm.ppf(right)
    return Scores(np.stack([found.astype(float), np.ones(len(shared))], axis=1))


if __name__ == "__main__":
    main()
