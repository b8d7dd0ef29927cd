"""What an arm's answers look like before anybody asks whether they are right: one constant, empty, malformed, cut."""

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

ONE_ANSWER = 0.8
"""Share of rows with one and the same answer from which the report says that an arm gives a constant."""
OFTEN_CUT = 0.05
"""Share of cut answers from which the report says so."""
SHOWN = 60  # characters of an answer in a sentence


@dataclass(frozen=True, slots=True)
class Health:
    """Shares of an arm's answers, and what they score for their content."""

    commonest: str
    commonest_share: float
    empty: float
    malformed: float
    """Not in the form that the primary metric reads."""
    cut: float | None
    """Ended by the limit of tokens and not by the model; null where nobody knows."""
    content: float | None
    """The primary metric where the form is forgiven; null where it forgives the form already or there is none."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What the better arm wins, by whether the other's answer had a readable form; in mean scores of rows."""

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
    """Look at the answers of one arm.

    Args:
        metric: that decides.
        metrics: the chosen ones.
        records: the rows that were asked.
        answers: to them.
        targets: of these and of other rows, which say what form an answer has.
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
    """The mean difference of the rows' own scores, split by whether the other arm's answer was well-formed.

    Args:
        against: the other arm.
        formed: for each row whether its answer was.
        ours: scores of the arm that wins.
        theirs: those of the other.
    """
    gain = (ours.values - theirs.values) / len(formed)
    readable = np.array(formed)
    return Gain(against, float(gain[~readable].sum()), float(gain[readable].sum()))


def find_warnings(report: Mapping[str, Any]) -> list[str]:
    """Sentences about arms that do not do what their numbers seem to say."""
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
            f"{join(names)} {'give' if len(names) > 1 else 'gives'} one answer, {shorten(answer)}, to {rows}."
        )
    no_better = [arm for arm, numbers in arms.items() if numbers[metric]["value"] <= constant]
    if no_better:
        verb = "are" if len(no_better) > 1 else "is"
        found.append(
            f"{join(no_better)} {verb} no better in {metric} than always giving the most frequent answer."
        )
    for arm, numbers in arms.items():
        cut = numbers["health"]["cut"]
        if cut and cut > OFTEN_CUT:
            found.append(
                f"{cut:.0%} of the answers of {arm} were cut at prompt.max_new_tokens; a longer limit may be fairer."
            )
    return found


def shorten(text: str) -> str:
    """A text of data in quotes, on one line, at most `SHOWN` characters of it."""
    line = " ".join(text.split())
    return f"“{line[:SHOWN]}…”" if len(line) > SHOWN else f"“{line}”"


def join(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
