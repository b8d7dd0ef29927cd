"""Describe how an arm's answers look: whether they are constant, empty, malformed or truncated."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.config.arms import CONSTANT_ARM
from stages.core.data.predictions import Prediction
from stages.core.data.records import Record
from stages.core.metrics.metrics import Metrics
from stages.core.statistics.scores import Scores
from stages.evaluate.analysis.sheets import warn_about_empty_answers
from stages.evaluate.analysis.truncation import warn_about_cuts

ONE_ANSWER = 0.8
"""The report warns about an arm that gives one answer to more than this share of the rows."""
SHOWN = 60  # the most characters of an answer in a sentence


@dataclass(frozen=True, slots=True)
class Health:
    """Describe the answers of an arm by their shares and by the score of their content."""

    commonest: str
    commonest_share: float
    empty: float
    malformed: float
    """The share of answers that are not in the form that the primary metric reads."""
    cut: float | None
    """The share of answers that the token limit ended and not the model; null if unknown."""
    content: float | None
    """The primary metric with a lenient reading of the form.

    Null if the metric is already lenient or has no lenient reading.
    """


@dataclass(frozen=True, slots=True)
class Gain:
    """Split the gain of the better arm into form and content, in mean scores of rows.

    `format` is the gain on rows that the other arm answered in no readable form. `content` is the
    gain on all other rows.
    """

    against: str
    format: float
    content: float


def get_health(
    metric: str,
    metrics: Metrics,
    records: Sequence[Record],
    answers: Sequence[Prediction],
    targets: Sequence[str],
) -> Health:
    """Describe the answers of one arm.

    Args:
        metric: The name of the metric that decides.
        metrics: The chosen metrics.
        records: The rows that were asked.
        answers: The arm's answers to these rows.
        targets: The targets of these and of other rows, which show the form of an answer.
    """
    texts = [answer.text for answer in answers]
    commonest, count = Counter(texts).most_common(1)[0]
    formed = metrics.well_formed(metric, texts, targets)
    lenient = metrics.lenient_scores(metric, texts, [record.target for record in records])
    cut = [answer.cut for answer in answers if answer.cut is not None]
    return Health(
        commonest,
        count / len(texts),
        sum(not text.strip() for text in texts) / len(texts),
        1 - sum(formed) / len(formed),
        sum(cut) / len(cut) if cut else None,
        lenient.value if lenient else None,
    )


def split_gain(against: str, formed: Sequence[bool], ours: Scores, theirs: Scores) -> Gain:
    """Split the mean difference of two arms by whether the other arm's answer was well-formed.

    Args:
        against: The name of the other arm.
        formed: For each row, whether the answer of the other arm was well-formed.
        ours: The scores of the better arm.
        theirs: The scores of the other arm.
    """
    gain = (ours.values - theirs.values) / len(formed)
    readable = np.array(formed)
    return Gain(against, float(gain[~readable].sum()), float(gain[readable].sum()))


def find_warnings(report: Mapping[str, Any]) -> list[str]:
    """Write warnings about arms whose numbers may mislead."""
    metric = report["primary_metric"]
    constant = report["arms"][CONSTANT_ARM][metric]["value"]
    arms = {arm: numbers for arm, numbers in report["arms"].items() if arm != CONSTANT_ARM}
    found = []
    alike: dict[str, list[str]] = {}
    for arm, numbers in arms.items():
        if numbers["health"]["commonest_share"] > ONE_ANSWER:
            alike.setdefault(numbers["health"]["commonest"], []).append(arm)
    for answer, names in alike.items():
        least = min(arms[arm]["health"]["commonest_share"] for arm in names)
        rows = f"{'at least ' if len(names) > 1 and least < 1 else ''}{least:.0%} of the rows"
        found.append(
            f"{join(names)} {'give' if len(names) > 1 else 'gives'} the same answer, "
            f"{shorten(answer)}, to {rows}."
        )
    no_better = [arm for arm, numbers in arms.items() if numbers[metric]["value"] <= constant]
    if no_better:
        verb = "are" if len(no_better) > 1 else "is"
        found.append(
            f"{join(no_better)} {verb} no better in {metric} than always giving the most "
            "frequent answer."
        )
    if cut := warn_about_cuts(report):
        found.append(cut)
    if report["forgetting"] and (empty := warn_about_empty_answers(report["forgetting"]["sheets"])):
        found.append(empty)
    return found


def shorten(text: str) -> str:
    """Quote at most `SHOWN` characters of a text on one line."""
    line = " ".join(text.split())
    return f"“{line[:SHOWN]}…”" if len(line) > SHOWN else f"“{line}”"


def join(names: Sequence[str]) -> str:
    """Join names to `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
