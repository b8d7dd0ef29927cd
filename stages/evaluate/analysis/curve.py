"""How much more data would help: the tuned arm's metric over the number of training rows, and what doubling brings.

All points are trained for the same number of steps, by several seeds. What lies beyond them is a guess, so that the
report shows the range of several fits and not the interval of one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.config.schema import Config
from stages.core.environment.lineage import data_sha256
from stages.core.statistics.bounds import estimate
from stages.core.statistics.scores import Scores
from stages.core.storage.files import read_json, sha256_json

FILE = Path("data/learning_curve.json")
"""Committed: the experiments behind it take a while, and the report of every later run has it."""
GRID = 13  # points of the fitted line
DRAWS = 1000  # of test rows and seeds


@dataclass(frozen=True, slots=True)
class Point:
    """The tuned models after training on a part of the rows."""

    share: float
    rows: int
    scores: Sequence[Scores]
    """Of each seed: of the test rows, the same ones at every point."""

    @property
    def values(self) -> list[float]:
        """The metric of each seed."""
        return [scores.value for scores in self.scores]


def fit_curve(
    points: Sequence[Point], confidence: float, seed: int, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Fit the share of failures, and say what twice the rows should bring.

    Three fits in the logarithms of failures and rows: a power law through all points, `1 - metric = a * rows ** -b` by
    least squares (the form in Hestness et al., "Deep Learning Scaling is Predictable, Empirically", 2017); the last
    two points alone; and, of three points or more, a slope that goes on to fall by the factor by which it fell last.

    Args:
        points: at least two, with different numbers of rows, by as many seeds each.
        confidence: of the intervals.
        seed: of the draws.
        groups: of each test row, see `stages.core.data.groups`: whole groups are drawn.

    Returns:
        `points` and `fit` (up to twice the most rows), each with `rows`, `value`, `ci_low`, `ci_high`; `doubling`: the
        gain by the power law as `value`, its lowest and highest by all fits as `low` and `high`, and as `ci_low` and
        `ci_high` the same with the luck of test rows and seeds; `sentence`.
    """
    ordered = sorted(points, key=lambda point: point.rows)
    sizes = np.array([point.rows for point in ordered], float)
    rng = np.random.default_rng(seed)
    tail = 100 * (1 - confidence) / 2
    weights = _draw_rows(len(ordered[0].scores[0].rows), groups, rng)
    of_seeds = [_score(point, weights) for point in ordered]
    means = np.array([[np.mean(point.values) for point in ordered]])
    draws = np.stack([_draw_seeds(values, rng) for values in of_seeds], axis=1)
    floor = 0.5 / len(
        ordered[0].scores[0].rows
    )  # no failure at all counts as half a row: zero has no logarithm

    def between(size: float) -> dict[str, float]:
        """The fitted metric at a size, with the range of all fits that reach there."""
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
                "share": p.share,
                "rows": p.rows,
                "seeds": p.values,
                **asdict(estimate(p.scores, confidence, groups)),
            }
            for p in ordered
        ],
        "fit": [between(size) for size in np.geomspace(sizes[0], 2 * most, GRID)],
        "doubling": doubling,
        "sentence": _sentence(ordered, doubling, confidence),
    }


def _get_doubling(gains: np.ndarray, drawn: np.ndarray, tail: float) -> dict[str, float]:
    """What twice the rows bring; both of shape (fits, draws), `tail` in percent."""
    return {
        "value": float(gains[0, 0]),
        "low": float(gains.min()),
        "high": float(gains.max()),
        "ci_low": float(np.percentile(drawn.min(axis=0), tail)),
        "ci_high": float(np.percentile(drawn.max(axis=0), 100 - tail)),
    }


def get_curve_key(config: Config) -> str:
    """What a curve belongs to: the data, and all of the configuration on which the tuned answers depend except the
    share and the seeds, which are what is varied."""
    values = config.model_dump(by_alias=True)
    train = {key: value for key, value in config.train.get_effective().items() if key != "share"}
    asked = {key: values["prompt"][key] for key in ("short_instruction", "max_new_tokens")}
    scored = {key: values["evaluate"][key] for key in ("primary_metric", "options")}
    return sha256_json([config.seed, data_sha256(), values["model"], train, asked, scored])


def read_curve(config: Config) -> dict[str, Any] | None:
    """The curve that `python -m tools.learning_curve` measured, if it belongs to this data and configuration."""
    measured = read_json(FILE) if FILE.exists() else {}
    return measured["curve"] if measured.get("key") == get_curve_key(config) else None


def _draw_rows(rows: int, groups: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """How often each row is drawn, shape (DRAWS, rows), whole groups where there are any."""
    units = np.arange(rows) if groups is None else groups
    count = int(units.max()) + 1
    return rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)[:, units]


def _score(point: Point, weights: np.ndarray) -> np.ndarray:
    """The metric of each seed in each draw of rows, shape (DRAWS, seeds)."""
    return np.stack([scores.aggregate(weights @ scores.rows) for scores in point.scores], axis=1)


def _draw_seeds(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean over drawn seeds, shape (DRAWS,).

    One seed fewer than there are is drawn, so that the spread is that of the mean of them all: with as many it would be
    too small by (k - 1) / k, half of it with two seeds (McCarthy, "Pseudo-Replication: Half Samples", 1969).
    """
    draws, seeds = values.shape
    chosen = rng.integers(seeds, size=(draws, max(1, seeds - 1)))
    return np.take_along_axis(values, chosen, axis=1).mean(axis=1)


def _fit(values: np.ndarray, sizes: np.ndarray, size: float, floor: float) -> np.ndarray:
    """The metric at a size by each fit, for values of shape (draws, points): shape (fits, draws)."""
    failures = np.log(np.clip(1 - values, floor, None))
    x = np.log(sizes) - np.log(sizes).mean()
    slope = (failures @ x) / (x**2).sum()
    law = 1 - np.exp(failures.mean(axis=1) + slope * (np.log(size) - np.log(sizes).mean()))
    if size <= sizes[-1]:  # the others go on from the last point
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
    """Where each fit stands at the last point, shape (fits, draws)."""
    law = _fit(values, sizes, sizes[-1], floor)[0]
    last = np.clip(values[:, -1], None, 1 - floor)
    return np.stack([law, *[last] * (2 if len(sizes) > 2 else 1)])  # noqa: PLR2004


def _slopes(failures: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Of the fits that go on from the last point: as between the last two, and as it slows down."""
    slopes = np.diff(failures, axis=1) / np.diff(np.log(sizes))
    last = slopes[:, -1]
    if slopes.shape[1] == 1:
        return [last]
    before = slopes[:, -2]
    slows = (before < last) & (last < 0)  # both fall, the last one less steeply
    return [last, np.where(slows, last * last / np.where(slows, before, 1), last)]


def _sentence(points: Sequence[Point], doubling: dict[str, float], confidence: float) -> str:
    seen = ", ".join(f"{np.mean(point.values):.3f} with {point.rows:,} rows" for point in points)
    seeds = len(points[0].scores)
    how = (
        f"{len(points)} points, {seeds} seeds each"
        if seeds > 1
        else f"{len(points)} points, one seed"
    )
    luck = "test rows and seeds" if seeds > 1 else "test rows, that of training not measured"
    return (
        f"{seen}; doubling the rows should add about {doubling['low']:.2f} to {doubling['high']:.2f} if the trend "
        f"continues ({doubling['ci_low']:.2f} to {doubling['ci_high']:.2f} with the luck of {luck}; {how})."
    )
