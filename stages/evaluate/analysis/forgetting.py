"""What the tuned model forgot: the general suite and general prose, base model against tuned model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.config.train import TrainConfig
from stages.core.inference.general import Item, read_items
from stages.core.statistics.bounds import Estimate, compare, estimate
from stages.core.statistics.scores import Scores, ratio
from stages.evaluate.analysis.general import passes
from stages.evaluate.analysis.sheets import Sheet, describe_answers, get_sheets

Answers = dict[str, Any]
Texts = dict[str, str]

SEVERE = 0.1  # a loss on the general suite from which the report offers a remedy


@dataclass(frozen=True, slots=True)
class Ability:
    """One category of items, or all of them."""

    category: str
    items: int
    base: Estimate
    tuned: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Reliability:
    """How exact the loss on the suite is, as far as one answer sheet of each model can tell.

    The usual coefficients (KR-20, Cronbach's alpha) are shares of a variance between persons, of which there are none
    here.
    """

    standard_error: float
    """Of the loss: items drawn within their categories, both models' answers to an item taken together."""
    halves: tuple[float, float]
    """The loss on every second pair of items, and on the others."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Both models on what has nothing to do with the task."""

    abilities: list[Ability]
    """All items first, then each category: the share of items that pass their check."""
    base_perplexity: float
    tuned_perplexity: float
    perplexity_ratio: Estimate
    """Tuned over base; 1 is nothing forgotten."""
    sentence: str
    sheets: list[Sheet]
    reliability: Reliability
    answers_sentence: str
    """What the tuned model answers instead of what it was asked."""
    remedy: str | None
    """What to do about a severe loss, where something can be done that was not done."""
    remedy_command: str | None


def compare_general(
    base: Answers, tuned: Answers, confidence: float, task: Sequence[str], train: TrainConfig
) -> Forgetting:
    """Compare two results of `stages.core.inference.general.ask_general`.

    Args:
        base: the base model's.
        tuned: the tuned model's.
        confidence: of the intervals over items and over paragraphs.
        task: the task's targets and the tuned model's answers to its rows.
        train: how it was tuned.
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
        f"General suite of {overall.items} items: {overall.tuned.value:.3f} after tuning, {overall.base.value:.3f} "
        f"before ({gap.value:+.3f}, {confidence:.0%} interval {gap.ci_low:+.3f} to {gap.ci_high:+.3f}); perplexity "
        f"of general prose {after:.1f} after, {before:.1f} before (times {ratio.value:.2f}, {ratio.ci_low:.2f} to "
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
        category, len(items), estimate(before, confidence), estimate(after, confidence), gap
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
    # Pairs, for the refusals alternate a harmful request and a harmless one: every second item is not half of each.
    second = np.arange(len(items)) // 2 % 2 == 1
    return Reliability(
        float(np.sqrt(variance)), (float(lost[~second].mean()), float(lost[second].mean()))
    )


def _get_remedy(gap: float, train: TrainConfig) -> tuple[str, str] | tuple[None, None]:
    if -gap <= SEVERE or train.method != "sft" or "chat" not in train.kinds or train.replay.share:
        return None, None
    sentence = (
        f"It lost {-gap:.3f} of the suite. General rows among the task's, which the base model writes itself, keep "
        "more of it (docs/training.md):"
    )
    return sentence, "dvc exp run -S train.replay.share=0.2"


def _prose(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    return np.array(answers["prose"]["nats"]), np.array(answers["prose"]["tokens"])


def _perplexity(nats: np.ndarray, tokens: np.ndarray) -> float:
    return float(np.exp(nats.sum() / tokens.sum()))


def _perplexity_ratio(
    base: dict[str, list[float]], tuned: dict[str, list[float]], confidence: float
) -> Estimate:
    """Both models read the same tokens, so that the ratio's logarithm is the difference of their mean losses."""
    lost = np.array(tuned["nats"]) - np.array(base["nats"])
    rows = np.stack([lost, np.array(base["tokens"], float)], axis=1)
    return estimate(Scores(rows, lambda sums: np.exp(ratio(sums)), bounds=None), confidence)
