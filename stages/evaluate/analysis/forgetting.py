"""Measure what the tuned model forgot, on the general suite and on general prose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.config.train import TrainConfig
from stages.core.inference.general import Item, read_items
from stages.core.statistics.bounds import Estimate, compare, estimate_metric
from stages.core.statistics.scores import Scores, ratio
from stages.evaluate.analysis.general import passes
from stages.evaluate.analysis.sheets import Sheet, describe_answers, get_sheets

Answers = dict[str, Any]
Texts = dict[str, str]

# This kept nine tenths of the suite on the default (docs/training.md).
REMEDY = "dvc exp run -S train.replay.fraction=0.1 -S train.replay.loss_fraction=0.6"
SEVERE = 0.1  # above this loss on the general suite the report offers a remedy


@dataclass(frozen=True, slots=True)
class Ability:
    """Compare both models on one category of items, or on all items."""

    category: str
    items: int
    base: Estimate
    tuned: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Reliability:
    """Say how precise the loss on the suite is, given one answer sheet of each model.

    The usual coefficients (KR-20, Cronbach's alpha) are shares of a variance between persons. There
    are no persons here.
    """

    standard_error: float
    """The standard error of the loss, for items drawn within their categories.

    The answers of both models to an item form a pair.
    """
    halves: tuple[float, float]
    """The loss on one half of the pairs of items and on the other half."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Compare both models on questions that have nothing to do with the task."""

    abilities: list[Ability]
    """The share of items that pass their check: for all items first, then for each category."""
    base_perplexity: float
    tuned_perplexity: float
    perplexity_ratio: Estimate
    """The perplexity after tuning divided by that before; 1 means that nothing was forgotten."""
    sentence: str
    sheets: list[Sheet]
    reliability: Reliability
    answers_sentence: str
    """A description of the answers that the tuned model gives instead of what it was asked."""
    remedy: str | None
    """What to do about a severe loss; null if there is nothing left to try."""
    remedy_command: str | None


def compare_general(
    base: Answers, tuned: Answers, confidence: float, task: Sequence[str], train: TrainConfig
) -> Forgetting:
    """Compare two results of `stages.core.inference.general.ask_general`.

    Args:
        base: The result of the base model.
        tuned: The result of the tuned model.
        confidence: The confidence of the intervals over items and over paragraphs.
        task: The targets of the task, and the answers of the tuned model to its rows.
        train: The configuration of the training.
    """
    items = read_items()
    abilities = [_compare("all", items, base, tuned, confidence)]
    for category in dict.fromkeys(item.category for item in items):
        of_category = [item for item in items if item.category == category]
        abilities.append(_compare(category, of_category, base, tuned, confidence))
    ratio = _perplexity_ratio(base["prose"], tuned["prose"], confidence)
    before, after = (_perplexity(*_prose(answers)) for answers in (base, tuned))
    overall = abilities[0]
    gap = overall.difference
    sentence = (
        f"General suite of {overall.items} items: {overall.tuned.value:.3f} after tuning and "
        f"{overall.base.value:.3f} before (difference {gap.value:+.3f}, {confidence:.0%} interval "
        f"{gap.ci_low:+.3f} to {gap.ci_high:+.3f}). Perplexity of general prose: {after:.1f} after "
        f"tuning and {before:.1f} before (ratio {ratio.value:.2f}, interval {ratio.ci_low:.2f} to "
        f"{ratio.ci_high:.2f})."
    )
    sheets = get_sheets(items, base, tuned, task)
    remedy, command = _get_remedy(gap.value, train)
    reliability = _get_reliability(items, base, tuned)
    return Forgetting(
        abilities,
        before,
        after,
        ratio,
        sentence,
        sheets,
        reliability,
        describe_answers(sheets),
        remedy,
        command,
    )


def _compare(
    category: str, items: Sequence[Item], base: Answers, tuned: Answers, confidence: float
) -> Ability:
    before, after = (_scores(items, answers["answers"]) for answers in (base, tuned))
    gap = compare(after, before).interval(confidence)
    return Ability(
        category,
        len(items),
        estimate_metric(before, confidence),
        estimate_metric(after, confidence),
        gap,
    )


def _scores(items: Sequence[Item], texts: Texts) -> Scores:
    return Scores(np.array([[float(passes(item, texts[item.id])), 1.0] for item in items]))


def _get_reliability(items: Sequence[Item], base: Answers, tuned: Answers) -> Reliability:
    after, before = (_scores(items, answers["answers"]).values for answers in (tuned, base))
    lost = before - after
    categories = np.array([item.category for item in items])
    # The variance of a stratified mean (Cochran, "Sampling Techniques", 1977, chapter 5).
    parts = [lost[categories == category] for category in dict.fromkeys(categories)]
    variance = sum(len(part) * part.var(ddof=1) for part in parts) / len(items) ** 2
    # Split pairs of items, because the refusals alternate a harmful and a harmless request.
    # Every second item alone would hold only one of the two kinds.
    second = np.arange(len(items)) // 2 % 2 == 1
    return Reliability(
        float(np.sqrt(variance)), (float(lost[~second].mean()), float(lost[second].mean()))
    )


def _get_remedy(gap: float, train: TrainConfig) -> tuple[str, str] | tuple[None, None]:
    if (
        -gap <= SEVERE
        or train.method != "sft"
        or "chat" not in train.record_types
        or train.replay.fraction
    ):
        return None, None
    sentence = (
        f"The tuned model lost {-gap:.3f} on the general suite. To keep more of its general "
        "abilities, mix general rows that the base model writes itself into the training rows "
        "(docs/training.md):"
    )
    return sentence, REMEDY


def _prose(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    return np.array(answers["prose"]["nats"]), np.array(answers["prose"]["tokens"])


def _perplexity(nats: np.ndarray, tokens: np.ndarray) -> float:
    return float(np.exp(nats.sum() / tokens.sum()))


def _perplexity_ratio(
    base: dict[str, list[float]], tuned: dict[str, list[float]], confidence: float
) -> Estimate:
    """Estimate the ratio of the perplexities.

    Both models read the same tokens, so the logarithm of the ratio is the difference of their mean
    losses.
    """
    lost = np.array(tuned["nats"]) - np.array(base["nats"])
    rows = np.stack([lost, np.array(base["tokens"], float)], axis=1)
    return estimate_metric(Scores(rows, lambda sums: np.exp(ratio(sums)), bounds=None), confidence)
