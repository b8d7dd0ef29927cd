"""Count the answers that the token limit ended, and bound what they could have been worth.

A cut answer is scored as it is, but what the model would have said is unknown. The worst case for a
claim is that each cut answer of the other side was right. These are the bounds of Manski ("Partial
Identification of Probability Distributions", 2003, chapter 1) for values that are not observed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.core.data.predictions import Prediction
from stages.core.data.records import Record
from stages.core.metrics.metrics import Metrics
from stages.core.statistics.scores import Scores

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Truncation:
    """Count the answers of an arm that `prompt.max_new_tokens` ended."""

    cut: int
    may_be_right: int
    """Those of them that could still have become right, by the primary metric."""


def find_cut(
    metrics: Metrics, name: str, records: Sequence[Record], answers: Sequence[Prediction]
) -> np.ndarray:
    """Find the cut answers that could still have become right.

    Returns:
        Whether each answer is one, shape (rows,).
    """
    cut = [bool(answer.cut) for answer in answers]
    if any(cut):
        # A copy, so that what the metric has counted for the report does not change.
        metric = metrics.only(name).prepared(name, [record.target for record in records])
        rows = zip(cut, answers, records, strict=True)
        cut = [ended and metric.may_become_right(a.text, r.target) for ended, a, r in rows]
    return np.array(cut, bool)


def count_as_right(
    metrics: Metrics,
    name: str,
    records: Sequence[Record],
    answers: Sequence[Prediction],
    scores: Scores,
) -> Scores:
    """Return the scores of an arm as if its cut answers had become right where they could.

    Args:
        metrics: The metrics.
        name: The metric of the scores.
        records: The rows.
        answers: The answers of the arm to these rows.
        scores: The scores of these answers.
    """
    cut = find_cut(metrics, name, records, answers)
    if not cut.any():
        return scores
    rows = scores.rows.copy()
    if metrics.best(name) is None and scores.bounds and rows.shape[1] == 2:  # noqa: PLR2004
        rows[cut] = [scores.bounds[1], 1.0]
    else:
        right = [replace(a, text=r.target) for a, r in zip(answers, records, strict=True)]
        rows[cut] = metrics.only(name).score_records(right, records)[name].rows[cut]
    return replace(scores, rows=rows)


def count_cut(
    metrics: Metrics, name: str, records: Sequence[Record], answers: Sequence[Prediction]
) -> Truncation:
    """Count the cut answers of one arm."""
    cut = sum(bool(answer.cut) for answer in answers)
    return Truncation(cut, int(find_cut(metrics, name, records, answers).sum()))


def warn_about_cuts(report: Report) -> str | None:
    """Say how many answers of each arm were cut; None if none was."""
    arms = report["truncation"]["arms"]
    if not arms:
        return None
    rows = f"prompt.max_new_tokens cut these of the {report['rows']:,} answers of an arm"
    if not any(found["may_be_right"] for found in arms.values()):
        counts = ", ".join(f"{found['cut']:,} of {arm}" for arm, found in arms.items())
        return f"{rows}, none of which could still have become right: {counts}."
    counts = ", ".join(
        f"{found['cut']:,} of {arm} ({found['may_be_right']:,} of them could still have become "
        "right)"
        for arm, found in arms.items()
    )
    return f"{rows}: {counts}."
