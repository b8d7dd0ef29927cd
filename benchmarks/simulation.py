"""Simulated answers of several arms to a test set, with a known truth: what `benchmarks.verdict` judges."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from stages.core.config.arms import TUNED_ARM
from stages.core.metrics.macro_f1.macro_f1 import MacroF1
from stages.core.statistics.scores import Scores

CLASSES = np.array([0.03, 0.07, 0.2, 0.2, 0.25, 0.25])
"""Shares of the labels for macro-F1, about those of the default's six."""
SHARED = 0.8
"""Weight of the difficulty that all arms share; two arms that are right on 55 % of rows then differ on 28 %."""


@dataclass(frozen=True)
class Case:
    """A truth, and how a test set is drawn from it."""

    name: str
    truth: Mapping[str, float]
    """Of each arm the expected value of the metric."""
    rows: int = 300
    groups: int = 0
    """Groups of equal size whose rows share half of an arm's luck; 0 for independent rows."""
    metric: str = "right"
    """A key of `METRICS`."""
    luck: float = 0.0
    """Standard deviation of the true value between training seeds."""
    seeds: int = 1
    looks: int = 1
    """Tuned models that are judged on the same rows; the best of them is reported."""


def draw(case: Case, random: np.random.Generator) -> dict[str, list[Scores]]:
    """One test set: for each arm its runs. `tuned` has `seeds` of them, the best out of `looks` models."""
    shared = random.normal(size=case.rows)
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
    return [METRICS[case.metric](_latent(case, shared, random), v, shared) for v in values]


def get_groups(case: Case) -> np.ndarray | None:
    """The number of each row's group."""
    return np.arange(case.rows) % case.groups if case.groups else None


def _latent(case: Case, shared: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A standard normal number for each row; the smaller, the more easily the arm is right."""
    luck = random.normal(size=case.rows)
    groups = get_groups(case)
    if groups is not None:
        luck = np.sqrt(0.5) * luck + np.sqrt(0.5) * random.normal(size=case.groups)[groups]
    return SHARED * shared + np.sqrt(1 - SHARED**2) * luck


def _right(latent: np.ndarray, value: float, shared: np.ndarray) -> Scores:
    """Each row is right or wrong."""
    return _ratio((latent < ndtri(value)).astype(float), np.ones(len(latent)))


def _micro_f1(latent: np.ndarray, value: float, shared: np.ndarray) -> Scores:
    """Up to four entities in 42 % of the rows, as in the named entities of loan agreements; F1 is near `value`."""
    wanted = np.where(shared > ndtri(0.58), 1 + (np.abs(shared * 1e4).astype(int) % 4), 0)
    hits = np.where(latent - SHARED * shared < ndtri(value) * np.sqrt(1 - SHARED**2), wanted, 0)
    return _ratio(2.0 * hits, 2.0 * wanted)


def _macro_f1(latent: np.ndarray, value: float, shared: np.ndarray) -> Scores:
    """One of six labels a row; a wrong answer is another label, the more often the more frequent it is."""
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
    """Over infinitely many rows, where the accuracy is the same for every label; shapes (n,)."""
    hits = accuracy[:, None] * CLASSES
    leaving = (1 - accuracy[:, None]) * CLASSES
    odds = CLASSES / (1 - CLASSES)
    extra = CLASSES * (1 - accuracy[:, None]) * (odds.sum() - odds)
    return np.asarray((2 * hits / (2 * hits + extra + leaving)).mean(axis=1))


def _get_uniform(normal: np.ndarray) -> np.ndarray:
    """A number from 0 to 1 out of late digits of another, and so independent of how large that is."""
    return np.asarray(np.abs(normal) * 1e4 % 1)


def _skewed(latent: np.ndarray, value: float, shared: np.ndarray) -> Scores:
    """A score between 0 and 1: nothing for most rows, anything for a share of `2 * value` of them."""
    return _ratio(np.clip(1 - ndtr(latent) / (2 * value), 0, 1), np.ones(len(latent)))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> Scores:
    return Scores(np.stack([top, bottom], axis=1))


METRICS: dict[str, Callable[[np.ndarray, float, np.ndarray], Scores]] = {
    "right": _right,
    "micro_f1": _micro_f1,
    "macro_f1": _macro_f1,
    "skewed": _skewed,
}
