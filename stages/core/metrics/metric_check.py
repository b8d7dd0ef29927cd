"""Check that a metric can tell right from wrong answers before hours of work depend on it."""

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

# Number of rows to check. A defect in 1 % of all rows is missed with a probability of 0.004 %, and
# one in 0.1 % of all rows with a probability of 37 %.
SAMPLE = 1000
TOLERANCE = 1e-6
SHOWN = 80  # characters of a target shown in a message


def check_metrics(metrics: Metrics, records: Sequence[Record], seed: int) -> None:
    """Check that each metric scores target answers best and empty answers worse.

    The check skips metrics whose `best` is None (perplexity and judge). If there are more than
    `SAMPLE` rows, it draws that many.

    Args:
        metrics: The metrics that will score the arms.
        records: Rows with targets.
        seed: The seed of the draw.

    Raises:
        UserError: A metric fails the check or rejects a target. The message of a failed check names
            a row, the script of its target, and what to do.
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
            f"scores a perfect answer {perfect.values[first]:.3f} instead of {best:g}",
        )
    if abs(perfect.value - best) > TOLERANCE:
        raise _error(
            reader,
            rows[0],
            f"scores perfect answers {perfect.value:.3f} instead of {best:g}",
        )
    adds_nothing = (perfect.rows == 0).all(axis=1)
    doubtful = (row for row, empty in zip(rows, adds_nothing, strict=True) if empty)
    if unread := next((row for row in doubtful if not reader.well_formed(row.target)), None):
        raise _error(reader, unread, "cannot read some targets")
    empty = _score(metrics, name, rows, [""] * len(rows))
    gain = (perfect.value - empty.value) * (-1 if metrics.lower_is_better(name) else 1)
    if gain <= TOLERANCE:
        said = f"scores empty answers {empty.value:.3f} and perfect answers {perfect.value:.3f}"
        raise _error(reader, rows[0], said)


def _score(metrics: Metrics, name: str, rows: Sequence[Record], texts: Sequence[str]) -> Scores:
    answers = [
        Prediction(row.id, "", text, 0, 0, 0.0) for row, text in zip(rows, texts, strict=True)
    ]
    return metrics.score_records(answers, rows)[name]


def _error(reader: Any, row: Record, said: str) -> UserError:
    target = row.target if len(row.target) <= SHOWN else f"{row.target[:SHOWN]}…"
    return UserError(
        f"evaluate.metrics: {reader.name} {said}, for example in row {row.id} with the target "
        f"{target!r} (script: {get_script(row.target)}). The metric cannot tell right from wrong "
        f"answers on this data. To fix this, {reader.advice}. If your own metric is meant to do "
        "this, set `best = None` in its class"
    )
