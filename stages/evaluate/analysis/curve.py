"""Estimate how much more training data would help, from a learning curve of the tuned arm.

All points are trained for the same number of steps, with several seeds. Anything beyond the last
point is extrapolated, so the report shows the range of several fits and not the interval of one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.config.schema import Config
from stages.core.environment.lineage import data_sha256
from stages.core.statistics.bounds import estimate_metric
from stages.core.statistics.scores import Scores
from stages.core.storage.files import read_json, sha256_json

FILE = Path("data/learning_curve.json")
"""This file is committed: its experiments take a while, and every later report shows it."""
GRID = 13  # points of the fitted line
DRAWS = 1000  # bootstrap draws of test rows and seeds


@dataclass(frozen=True, slots=True)
class Point:
    """Hold the scores of the models that were trained on a share of the rows."""

    train_fraction: float
    rows: int
    scores: Sequence[Scores]
    """For each seed, the scores of the test rows, which are the same at every point."""

    @property
    def values(self) -> list[float]:
        """Get the metric of each seed."""
        return [scores.value for scores in self.scores]


def fit_curve(
    points: Sequence[Point], confidence: float, seed: int, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Fit the failure rate, and estimate what doubling the rows would bring.

    There are three fits in the logarithms of failures and rows. The first is a power law through
    all points, `1 - metric = a * rows ** -b`, by least squares (the form in Hestness et al., "Deep
    Learning Scaling is Predictable, Empirically", 2017). The second uses the last two points
    alone. The third needs three points or more: its slope keeps shrinking by the factor by which
    it shrank last.

    Args:
        points: At least two points with different numbers of rows and the same number of seeds.
        confidence: The confidence of the intervals.
        seed: The seed of the bootstrap draws.
        groups: The group of each test row, see `stages.core.data.groups`. Whole groups are drawn.

    Returns:
        A dictionary with four keys. `points` and `fit` have `rows`, `value`, `ci_low` and
        `ci_high`; `fit` reaches twice the largest number of rows. `doubling` has the gain by the
        power law as `value`, the lowest and highest gain of all fits as `low` and `high`, and the
        same with the uncertainty of test rows and seeds as `ci_low` and `ci_high`. `sentence`
        says it in words.
    """
    ordered = sorted(points, key=lambda point: point.rows)
    sizes = np.array([point.rows for point in ordered], float)
    rng = np.random.default_rng(seed)
    tail = 100 * (1 - confidence) / 2
    weights = _draw_rows(len(ordered[0].scores[0].rows), groups, rng)
    of_seeds = [_score(point, weights) for point in ordered]
    means = np.array([[np.mean(point.values) for point in ordered]])
    draws = np.stack([_draw_seeds(values, rng) for values in of_seeds], axis=1)
    # No failure at all counts as half a row, because zero has no logarithm.
    floor = 0.5 / len(ordered[0].scores[0].rows)

    def between(size: float) -> dict[str, float]:
        """Get the fitted metric at a size, with the range of all fits that cover this size."""
        fitted = _fit(means, sizes, size, floor)
        drawn = _fit(draws, sizes, size, floor)
        low = np.percentile(drawn.min(axis=0), tail)
        high = np.percentile(drawn.max(axis=0), 100 - tail)
        return {
            "rows": float(size),
            "value": float(fitted[0, 0]),
            "ci_low": float(low),
            "ci_high": float(high),
        }

    most = sizes[-1]
    gains, drawn = (
        _fit(v, sizes, 2 * most, floor) - _start(v, sizes, floor) for v in (means, draws)
    )
    doubling = _get_doubling(gains, drawn, tail)
    return {
        "points": [
            {
                "train_fraction": p.train_fraction,
                "rows": p.rows,
                "seeds": p.values,
                **asdict(estimate_metric(p.scores, confidence, groups)),
            }
            for p in ordered
        ],
        "fit": [between(size) for size in np.geomspace(sizes[0], 2 * most, GRID)],
        "doubling": doubling,
        "sentence": _sentence(ordered, doubling, confidence),
    }


def _get_doubling(gains: np.ndarray, drawn: np.ndarray, tail: float) -> dict[str, float]:
    """Summarize the gain of doubling the rows.

    Args:
        gains: The gains of the measured points, shape (fits, 1).
        drawn: The gains of the bootstrap draws, shape (fits, draws).
        tail: The percentage that each end of the interval leaves out.
    """
    return {
        "value": float(gains[0, 0]),
        "low": float(gains.min()),
        "high": float(gains.max()),
        "ci_low": float(np.percentile(drawn.min(axis=0), tail)),
        "ci_high": float(np.percentile(drawn.max(axis=0), 100 - tail)),
    }


def get_curve_key(config: Config) -> str:
    """Hash what a curve belongs to.

    The key covers the data and the configuration on which the tuned answers depend. It leaves out
    the share and the seeds, because the curve varies these.
    """
    values = config.model_dump(by_alias=True)
    train = {
        key: value for key, value in config.train.get_effective().items() if key != "train_fraction"
    }
    asked = {key: values["prompt"][key] for key in ("tuned_system_prompt", "max_new_tokens")}
    scored = {key: values["evaluate"][key] for key in ("primary_metric", "options")}
    return sha256_json([config.seed, data_sha256(), values["model"], train, asked, scored])


def read_curve(config: Config) -> dict[str, Any] | None:
    """Read the curve of `python -m tools.learning_curve`.

    Returns:
        The curve; None if there is none for this data and configuration.
    """
    measured = read_json(FILE) if FILE.exists() else {}
    return measured["curve"] if measured.get("key") == get_curve_key(config) else None


def _draw_rows(rows: int, groups: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Draw rows, or whole groups if there are any.

    Returns:
        How often each draw contains each row, shape (DRAWS, rows).
    """
    units = np.arange(rows) if groups is None else groups
    count = int(units.max()) + 1
    return rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)[:, units]


def _score(point: Point, weights: np.ndarray) -> np.ndarray:
    """Compute the metric of each seed in each draw of rows, shape (DRAWS, seeds)."""
    return np.stack([scores.aggregate(weights @ scores.rows) for scores in point.scores], axis=1)


def _draw_seeds(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Average the metric over drawn seeds, shape (DRAWS,).

    Each draw has one seed fewer than there are, which gives the variance of the mean of all seeds.
    Drawing all k seeds would make it too small by the factor (k - 1) / k, which is one half with
    two seeds (McCarthy, "Pseudo-Replication: Half Samples", 1969).
    """
    draws, seeds = values.shape
    chosen = rng.integers(seeds, size=(draws, max(1, seeds - 1)))
    return np.take_along_axis(values, chosen, axis=1).mean(axis=1)


def _fit(values: np.ndarray, sizes: np.ndarray, size: float, floor: float) -> np.ndarray:
    """Extrapolate the metric to a size with each fit.

    Args:
        values: The metric at each point, shape (draws, points).
        sizes: The number of rows of each point.
        size: The number of rows for which the metric is wanted.
        floor: The lowest failure rate.

    Returns:
        The metric, shape (fits, draws). Only the power law covers sizes up to the last point.
    """
    failures = np.log(np.clip(1 - values, floor, None))
    x = np.log(sizes) - np.log(sizes).mean()
    slope = (failures @ x) / (x**2).sum()
    law = 1 - np.exp(failures.mean(axis=1) + slope * (np.log(size) - np.log(sizes).mean()))
    if size <= sizes[-1]:  # the other fits start at the last point
        return law[None]
    return np.stack(
        [
            law,
            *(
                1 - np.exp(failures[:, -1] + s * np.log(size / sizes[-1]))
                for s in _slopes(failures, sizes)
            ),
        ]
    )


def _start(values: np.ndarray, sizes: np.ndarray, floor: float) -> np.ndarray:
    """Get the value of each fit at the last point, shape (fits, draws)."""
    law = _fit(values, sizes, sizes[-1], floor)[0]
    last = np.clip(values[:, -1], None, 1 - floor)
    return np.stack([law, *[last] * (2 if len(sizes) > 2 else 1)])  # noqa: PLR2004


def _slopes(failures: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Get the slopes of the fits that start at the last point.

    The first slope is that between the last two points. The second is the first one, slowed down
    by the factor by which it slowed down last.
    """
    slopes = np.diff(failures, axis=1) / np.diff(np.log(sizes))
    last = slopes[:, -1]
    if slopes.shape[1] == 1:
        return [last]
    before = slopes[:, -2]
    slows = (before < last) & (last < 0)  # failures fall in both steps, but less in the last
    return [last, np.where(slows, last * last / np.where(slows, before, 1), last)]


def _sentence(points: Sequence[Point], doubling: dict[str, float], confidence: float) -> str:
    seen = ", ".join(f"{np.mean(point.values):.3f} with {point.rows:,} rows" for point in points)
    seeds = len(points[0].scores)
    how = (
        f"{len(points)} points, {seeds} seeds each"
        if seeds > 1
        else f"{len(points)} points, one seed"
    )
    luck = "test rows and seeds" if seeds > 1 else "test rows, but not of training"
    return (
        f"{seen}. Doubling the rows should add about {doubling['low']:.2f} to "
        f"{doubling['high']:.2f} if the trend continues ({doubling['ci_low']:.2f} to "
        f"{doubling['ci_high']:.2f} with the uncertainty of {luck}; {how})."
    )
