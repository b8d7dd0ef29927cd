"""What the tuned model forgot: the general suite and general prose, base model against tuned model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.general import Item, read_items
from stages.core.metrics import Scores, ratio
from stages.core.statistics import Estimate, compare, estimate
from stages.evaluate.general import passes

Answers = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ability:
    """One category of items, or all of them."""

    category: str
    items: int
    base: Estimate
    tuned: Estimate
    difference: Estimate


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


def compare_general(base: Answers, tuned: Answers, confidence: float) -> Forgetting:
    """Compare two results of `stages.core.general.ask_general`.

    Args:
        base: the base model's.
        tuned: the tuned model's.
        confidence: of the intervals over items and over paragraphs.
    """
    items = read_items()
    abilities = [_compare("all", items, base, tuned, confidence)]
    for category in dict.fromkeys(item.category for item in items):
        abilities.append(
            _compare(category, [item for item in items if item.category == category], base, tuned, confidence)
        )
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
    return Forgetting(abilities, before, after, ratio, sentence)


def _compare(category: str, items: Sequence[Item], base: Answers, tuned: Answers, confidence: float) -> Ability:
    before, after = (_scores(items, answers["answers"]) for answers in (base, tuned))
    gap = compare(after, before).interval(confidence)
    return Ability(category, len(items), estimate(before, confidence), estimate(after, confidence), gap)


def _scores(items: Sequence[Item], texts: dict[str, str]) -> Scores:
    return Scores(np.array([[float(passes(item, texts[item.id])), 1.0] for item in items]))


def _prose(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    return np.array(answers["prose"]["nats"]), np.array(answers["prose"]["tokens"])


def _perplexity(nats: np.ndarray, tokens: np.ndarray) -> float:
    return float(np.exp(nats.sum() / tokens.sum()))


def _perplexity_ratio(base: dict[str, list[float]], tuned: dict[str, list[float]], confidence: float) -> Estimate:
    """Both models read the same tokens, so that the ratio's logarithm is the difference of their mean losses."""
    lost = np.array(tuned["nats"]) - np.array(base["nats"])
    rows = np.stack([lost, np.array(base["tokens"], float)], axis=1)
    return estimate(Scores(rows, lambda sums: np.exp(ratio(sums)), bounds=None), confidence)
