"""How much more data would help: the tuned arm's metric over the number of training rows, and what doubling brings."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.config import Config
from stages.core.files import read_json, sha256_json
from stages.core.lineage import data_sha256
from stages.core.metrics import Scores
from stages.core.statistics import estimate

FILE = Path("data/learning_curve.json")
"""Committed: the experiments behind it take a while, and the report of every later run has it."""
STEPS = 13  # points of the fitted line
LAST_TWO = slice(-2, None)


@dataclass(frozen=True, slots=True)
class Point:
    """The tuned model after training on a part of the rows."""

    share: float
    rows: int
    runs: Sequence[Scores]
    """Of the test rows, the same ones at every point; one for each training seed."""


def fit_curve(points: Sequence[Point], confidence: float) -> dict[str, Any]:
    """Fit a power law to the share of failures, and say what twice the rows may bring.

    `1 - metric = a * rows ** -b`, by least squares of the logarithms (the form in Hestness et al., "Deep Learning
    Scaling is Predictable, Empirically", 2017). How far it holds nobody knows, so that no interval is printed but the
    range of what every run alone says by two fits: one to all points, one to the last two.

    Args:
        points: at least two, with different numbers of rows and as many runs.
        confidence: of the points' intervals.

    Returns:
        `points` and `fit` (up to twice the most rows) with `rows`, `value`, `ci_low`, `ci_high`; `doubling` with `low`
        and `high`; `sentence`.
    """
    ordered = sorted(points, key=lambda point: point.rows)
    sizes = np.array([point.rows for point in ordered], float)
    values = np.array([[scores.value for scores in point.runs] for point in ordered])
    count = len(ordered[0].runs[0].rows)
    most = sizes[-1]
    gains = [
        _fitted(values[part], sizes[part], 2 * most, count) - _fitted(values[part], sizes[part], most, count)
        for part in (slice(None), LAST_TWO)
    ]
    low = float(np.min(gains))
    high = float(np.max(gains))
    return {
        "points": [
            {"share": point.share, "rows": point.rows, **asdict(estimate(point.runs, confidence))} for point in ordered
        ],
        "fit": [_draw(values, sizes, size, count) for size in np.geomspace(sizes[0], 2 * most, STEPS)],
        "doubling": {"low": low, "high": high},
        "sentence": _sentence(ordered, values.mean(axis=1), low, high),
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


def _draw(values: np.ndarray, sizes: np.ndarray, size: float, count: int) -> dict[str, float]:
    """The line of all points at a size, and the least and the greatest of what the runs and the two fits say there."""
    whole = _fitted(values, sizes, size, count)
    ends = np.concatenate([whole, _fitted(values[LAST_TWO], sizes[LAST_TWO], size, count)])
    return {
        "rows": float(size),
        "value": float(whole.mean()),
        "ci_low": float(ends.min()),
        "ci_high": float(ends.max()),
    }


def _fitted(values: np.ndarray, sizes: np.ndarray, size: float, rows: int) -> np.ndarray:
    """The fitted metric at `size` for values of shape (points, runs), shape (runs,)."""
    failures = np.log(np.clip(1 - values, 0.5 / rows, None))  # none at all: half a row, or there is no logarithm
    x = np.log(sizes) - np.log(sizes).mean()
    slope = np.tensordot(x, failures, axes=1) / (x**2).sum()
    return 1 - np.exp(failures.mean(axis=0) + slope * (np.log(size) - np.log(sizes).mean()))


def _sentence(points: Sequence[Point], values: np.ndarray, low: float, high: float) -> str:
    seen = ", ".join(f"{value:.3f} with {point.rows:,} rows" for point, value in zip(points, values, strict=True))
    runs = len(points[0].runs)
    return (
        f"{seen}. Doubling the rows should add about {low:.2f} to {high:.2f} if the trend continues; it rests on "
        f"{len(points)} points with {runs} training run{'s' if runs > 1 else ''} each."
    )
