"""Whether a metric can tell right from wrong on these rows, before hours of work depend on it."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.data.predictions import Prediction
from stages.core.data.records import Record
from stages.core.data.unicode_text import get_script
from stages.core.errors import UserError
from stages.core.metrics.metrics import Metrics
from stages.core.statistics.scores import Scores

SAMPLE = 1000  # rows; a defect of 1 % of all rows is missed with a chance of 0.004 %, of 0.1 % with one of 37 %
TOLERANCE = 1e-6
SHOWN = 80  # characters of a target in a message


def check_metrics(metrics: Metrics, records: Sequence[Record], seed: int) -> None:
    """Hold every metric to this: answers equal to their targets score best, and empty answers score worse.

    Metrics whose `best` is None (perplexity, judge) are not asked. Of more than `SAMPLE` rows so many are drawn.

    Args:
        metrics: those that arms are to be scored by.
        records: rows with targets.
        seed: of the draw.

    Raises:
        UserError: a metric fails, with a row, the script of its target, and what to do; or it refuses a target.
    """
    rows = (
        random.Random(seed).sample(list(records), SAMPLE)
        if len(records) > SAMPLE
        else list(records)
    )
    for name in metrics.names:
        best = metrics.best(name)
        if best is not None and rows:
            _check(metrics.only(name), name, rows, best)


def _check(metrics: Metrics, name: str, rows: Sequence[Record], best: float) -> None:
    targets = [row.target for row in rows]
    reader = metrics.prepared(name, targets)
    perfect = _score(metrics, name, rows, targets)
    off = np.abs(perfect.values - best) > TOLERANCE
    if off.any():
        first = int(off.argmax())
        raise _error(
            reader,
            rows[first],
            f"gives a perfect answer {perfect.values[first]:.3f}, not {best:g},",
        )
    if abs(perfect.value - best) > TOLERANCE:
        raise _error(
            reader,
            rows[0],
            f"gives perfect answers {perfect.value:.3f}, not {best:g}, such as that",
        )
    adds_nothing = (perfect.rows == 0).all(axis=1)
    doubtful = (row for row, empty in zip(rows, adds_nothing, strict=True) if empty)
    if unread := next((row for row in doubtful if not reader.well_formed(row.target)), None):
        raise _error(reader, unread, "cannot read the target")
    empty = _score(metrics, name, rows, [""] * len(rows))
    gain = (perfect.value - empty.value) * (-1 if metrics.lower_is_better(name) else 1)
    if gain <= TOLERANCE:
        said = f"gives empty answers {empty.value:.3f} and perfect ones {perfect.value:.3f}, such as that"
        raise _error(reader, rows[0], said)


def _score(metrics: Metrics, name: str, rows: Sequence[Record], texts: Sequence[str]) -> Scores:
    answers = [
        Prediction(row.id, "", text, 0, 0, 0.0) for row, text in zip(rows, texts, strict=True)
    ]
    return metrics.score_records(answers, rows)[name]


def _error(reader: Any, row: Record, said: str) -> UserError:
    target = row.target if len(row.target) <= SHOWN else f"{row.target[:SHOWN]}…"
    return UserError(
        f"evaluate.metrics: {reader.name} {said} in row {row.id}, whose target is {target!r} (script: "
        f"{get_script(row.target)}), so it cannot tell right from wrong. To mend it, {reader.advice}. If a metric of "
        "your own is meant to do that, say `best = None` in its class"
    )
