"""Simulate the answers of several arms to a test set with a known truth."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from stages.core.config.arms import TUNED_ARM
from stages.core.metrics.macro_f1.macro_f1 import MacroF1
from stages.core.statistics.scores import Scores

CLASSES = np.array([0.03, 0.07, 0.2, 0.2, 0.25, 0.25])
"""Shares of the labels for macro-F1, close to those of the six labels of the default data set."""
SHARED = 0.8
"""Weight of the difficulty that all arms share.

With this weight, two arms that are each right on 55 % of the rows differ on 28 % of them.
"""


@dataclass(frozen=True)
class Case:
    """A known truth, and how to draw a test set from it."""

    name: str
    truth: Mapping[str, float]
    """The expected value of the metric for each arm."""
    rows: int = 300
    groups: int = 0
    """Number of equally large groups whose rows share half of an arm's luck, or 0 for no groups."""
    alike: bool = False
    """Whether all rows of a group are alike, so that each arm has all of them right or wrong."""
    metric: str = "right"
    """A key of `SCORES_BY_METRIC`."""
    luck: float = 0.0
    """Standard deviation of the true value between training seeds."""
    seeds: int = 1
    looks: int = 1
    """Number of tuned models judged on the same rows. The best of them is reported."""


def draw(case: Case, random: np.random.Generator) -> dict[str, list[Scores]]:
    """Draw one test set and return the runs of each arm.

    `tuned` has one run per seed, all of the best out of `looks` models. Every other arm has one
    run.
    """
    shared = random.normal(size=case.rows)
    if case.alike:
        shared = shared[get_groups(case)]
    found = {
        arm: _draw_runs(case, value, shared, random)
        for arm, value in case.truth.items()
        if arm != TUNED_ARM
    }
    value = case.truth[TUNED_ARM]
    models = [
        _draw_runs(case, value, shared, random, spread=case.luck, count=case.seeds)
        for _ in range(case.looks)
    ]
    return {
        **found,
        TUNED_ARM: max(models, key=lambda runs: float(np.mean([scores.value for scores in runs]))),
    }


def _draw_runs(
    case: Case,
    value: float,
    shared: np.ndarray,
    random: np.random.Generator,
    *,
    spread: float = 0.0,
    count: int = 1,
) -> list[Scores]:
    values = [float(np.clip(value + spread * random.normal(), 0.001, 0.999)) for _ in range(count)]
    return [SCORES_BY_METRIC[case.metric](_latent(case, shared, random), v, shared) for v in values]


def get_groups(case: Case) -> np.ndarray | None:
    """Return the group number of each row, or None without groups."""
    return np.arange(case.rows) % case.groups if case.groups else None


def _latent(case: Case, shared: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw a standard normal number per row. A smaller one makes the row easier for the arm."""
    luck = random.normal(size=case.rows)
    groups = get_groups(case)
    if groups is not None:
        own = 0.0 if case.alike else 0.5  # of the variance of a row's luck
        of_group = random.normal(size=case.groups)[groups]
        luck = np.sqrt(own) * luck + np.sqrt(1 - own) * of_group
    return SHARED * shared + np.sqrt(1 - SHARED**2) * luck


def _right(latent: np.ndarray, value: float, shared: np.ndarray) -> Scores:
    """Score each row as right or wrong."""
    return _ratio((latent < ndtri(value)).astype(float), np.ones(len(latent)))


def _micro_f1(latent: np.ndarray, value: float, shared: np.ndarray) -> Scores:
    """Score up to four entities in 42 % of the rows, with a micro-F1 close to `value`.

    The entities are distributed like the named entities in loan agreements.
    """
    wanted = np.where(shared > ndtri(0.58), 1 + (np.abs(shared * 1e4).astype(int) % 4), 0)
    hits = np.where(latent - SHARED * shared < ndtri(value) * np.sqrt(1 - SHARED**2), wanted, 0)
    return _ratio(2.0 * hits, 2.0 * wanted)


def _macro_f1(latent: np.ndarray, value: float, shared: np.ndarray) -> Scores:
    """Score one of six labels per row. Frequent labels are more often the wrong answer."""
    starts = np.cumsum(CLASSES) - CLASSES
    wanted = np.searchsorted(starts, _get_uniform(shared), side="right") - 1
    place = _get_uniform(latent) * (1 - CLASSES[wanted])
    place += np.where(place >= starts[wanted], CLASSES[wanted], 0)
    other = np.searchsorted(starts, place, side="right") - 1
    accuracies = np.linspace(0, 1, 1001)
    right = latent < ndtri(np.interp(value, _get_expected_macro_f1(accuracies), accuracies))
    found = np.where(right, wanted, other)
    labels = np.arange(len(CLASSES))
    is_found = found[:, None] == labels
    is_wanted = wanted[:, None] == labels
    counts = np.stack([is_found & is_wanted, is_found & ~is_wanted, ~is_found & is_wanted], axis=2)
    metric = MacroF1()
    return Scores(counts.reshape(len(found), -1).astype(float), metric.aggregate, metric.row_values)


def _get_expected_macro_f1(accuracy: np.ndarray) -> np.ndarray:
    """Return the macro-F1 over infinitely many rows if every label has the same accuracy.

    The shapes of the argument and of the result are (n,).
    """
    hits = accuracy[:, None] * CLASSES
    leaving = (1 - accuracy[:, None]) * CLASSES
    odds = CLASSES / (1 - CLASSES)
    extra = CLASSES * (1 - accuracy[:, None]) * (odds.sum() - odds)
    return np.asarray((2 * hits / (2 * hits + extra + leaving)).mean(axis=1))


def _get_uniform(normal: np.ndarray) -> np.ndarray:
    """Return uniform numbers from 0 to 1 that do not depend on the size of the given numbers.

    They come from late digits of the given numbers.
    """
    return np.asarray(np.abs(normal) * 1e4 % 1)


def _skewed(latent: np.ndarray, value: float, shared: np.ndarray) -> Scores:
    """Score a share of `2 * value` of the rows uniformly between 0 and 1, and the others with 0."""
    return _ratio(np.clip(1 - ndtr(latent) / (2 * value), 0, 1), np.ones(len(latent)))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> Scores:
    return Scores(np.stack([top, bottom], axis=1))


SCORES_BY_METRIC: dict[str, Callable[[np.ndarray, float, np.ndarray], Scores]] = {
    "right": _right,
    "micro_f1": _micro_f1,
    "macro_f1": _macro_f1,
    "skewed": _skewed,
}
