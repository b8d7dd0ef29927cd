"""How much more data would help: the tuned arm's metric over the number of training rows, and what doubling brings."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.config import Config
from stages.core.files import read_json, sha256_json
from stages.core.lineage import data_sha256
from stages.core.metrics import Scores
from stages.evaluate.statistics import Estimate, Resampling, bootstrap, estimate

FILE = Path("data/learning_curve.json")
"""Committed: the experiments behind it take a while, and the report of every later run has it."""
STEPS = 13  # points of the fitted line


@dataclass(frozen=True, slots=True)
class Point:
    """The tuned model after training on a part of the rows."""

    share: float
    rows: int
    scores: Scores
    """Of the test rows, the same ones at every point."""


def fit_curve(points: Sequence[Point], how: Resampling) -> dict[str, Any]:
    """Fit a power law to the share of failures, and say what twice the rows should bring.

    `1 - metric = a * rows ** -b`, by least squares of the logarithms (the form in Hestness et al., "Deep Learning
    Scaling is Predictable, Empirically", 2017). Intervals: bootstrap over the test rows, which all points share.

    Args:
        points: at least two, with different numbers of rows.
        how: intervals are made.

    Returns:
        `points` and `fit` (up to twice the most rows) with `rows`, `value`, `ci_low`, `ci_high`; `doubling`, an
        interval of the gain; `sentence`.
    """
    sizes, n = np.array([point.rows for point in points], float), len(points[0].scores.rows)
    most = sizes.max()
    grid = np.geomspace(sizes.min(), 2 * most, STEPS)

    def at(rows: np.ndarray, size: float) -> np.ndarray:
        return _fitted(np.stack([point.scores.at(rows) for point in points]), sizes, size, n)

    gain = bootstrap(lambda rows: at(rows, 2 * most) - at(rows, most), n, how)
    line = [bootstrap(partial(at, size=size), n, how) for size in grid]
    return {
        "points": [
            {"share": p.share, "rows": p.rows, **asdict(estimate(p.scores, how))}
            for p in sorted(points, key=lambda point: point.rows)
        ],
        "fit": [{"rows": float(size), **asdict(found)} for size, found in zip(grid, line, strict=True)],
        "doubling": asdict(gain),
        "sentence": _sentence(points, gain, how.confidence),
    }


def get_curve_key(config: Config) -> str:
    """What a curve belongs to: the data, and all of the configuration on which the tuned answers hang but the share."""
    values = config.model_dump(by_alias=True)
    for name in ("share", "dry_run"):
        values["train"].pop(name)
    asked = {key: values["prompt"][key] for key in ("short_instruction", "max_new_tokens")}
    scored = {key: values["evaluate"][key] for key in ("primary_metric", "options")}
    return sha256_json([config.seed, data_sha256(), values["model"], values["train"], asked, scored])


def read_curve(config: Config) -> dict[str, Any] | None:
    """The curve that `python -m tools.curve` measured, if it belongs to this data and configuration."""
    if config.evaluate.split != "test":  # its points are of test rows
        return None
    measured = read_json(FILE) if FILE.exists() else {}
    return measured["curve"] if measured.get("key") == get_curve_key(config) else None


def _fitted(values: np.ndarray, sizes: np.ndarray, size: float, rows: int) -> np.ndarray:
    """The fitted metric at `size` for values of shape (points, …), shape (…)."""
    failures = np.log(np.clip(1 - values, 0.5 / rows, None))  # none at all: half a row, or there is no logarithm
    x = np.log(sizes) - np.log(sizes).mean()
    slope = np.tensordot(x, failures, axes=1) / (x**2).sum()
    return 1 - np.exp(failures.mean(axis=0) + slope * (np.log(size) - np.log(sizes).mean()))


def _sentence(points: Sequence[Point], gain: Estimate, confidence: float) -> str:
    ordered = sorted(points, key=lambda point: point.rows)
    seen = ", ".join(f"{point.scores.value:.3f} with {point.rows:,} rows" for point in ordered)
    return (
        f"{seen}; twice the rows should bring {gain.value:+.3f} ({confidence:.0%} interval {gain.ci_low:+.3f} to "
        f"{gain.ci_high:+.3f}) if the curve goes on as it came."
    )
