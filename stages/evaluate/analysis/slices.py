"""Compare the tuned arm with the best prompted arm on parts of the test split."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stages.core.config.evaluate import EvaluateConfig
from stages.core.data.records import Record
from stages.core.statistics.bounds import Estimate, compare
from stages.core.statistics.scores import Scores

FEW = 15  # a part with fewer rows has no useful interval
PARTS = 3  # parts by length
FREQUENT = 0.05  # a target with at least this share of the rows is a part of its own
LONGEST = 40  # the most characters of a value in a name


@dataclass(frozen=True, slots=True)
class Slice:
    """Compare two arms on a part of the test rows."""

    by: str
    value: str
    rows: int
    ours: float
    theirs: float
    difference: Estimate
    loses: bool
    """Whether the whole interval is below zero here although the tuned arm wins overall."""


def compare_slices(
    settings: EvaluateConfig,
    records: Sequence[Record],
    ours: Scores,
    theirs: Scores,
    groups: np.ndarray | None,
) -> list[Slice]:
    """Compare two arms on every part of at least `FEW` rows.

    Args:
        settings: The section whose `slices` name the parts. `length` is the length of the question
            in thirds, `label` is the label of the row or a frequent target, and any other name is
            a column that `data.metadata_columns` kept.
        records: The test split.
        ours: The scores of the tuned arm.
        theirs: The scores of the best prompted arm.
        groups: The group of each row, see `stages.core.data.groups`.
    """
    wins = ours.value > theirs.value
    found = []
    for name in settings.slices:
        for value, rows in _parts(name, records):
            if len(rows) < FEW:
                continue
            a = ours.of(rows)
            b = theirs.of(rows)
            inside = None if groups is None else np.unique(groups[rows], return_inverse=True)[1]
            gap = compare(a, b, inside).interval(settings.confidence)
            found.append(
                Slice(name, value, len(rows), a.value, b.value, gap, bool(wins and gap.ci_high < 0))
            )
    return found


def _parts(name: str, records: Sequence[Record]) -> Iterator[tuple[str, np.ndarray]]:
    if name == "length":
        lengths = np.array(
            [sum(len(message["content"]) for message in record.prompt) for record in records]
        )
        for part in np.array_split(np.argsort(lengths, kind="stable"), PARTS):
            if len(part):
                yield f"{lengths[part].min():,} to {lengths[part].max():,} characters", part
        return
    values = [_value(name, record) for record in records]
    counts = Counter(values)
    if name == "label":  # a target that rarely repeats is not a class
        limit = max(2, FREQUENT * len(records))
        values = [value if counts[value] >= limit else "any other" for value in values]
    for value in dict.fromkeys(values):
        yield value[:LONGEST], np.array([i for i, other in enumerate(values) if other == value])


def _value(name: str, record: Record) -> str:
    if name == "label":
        return str(record.meta.get("label", record.target))
    return str(record.meta.get("columns", {}).get(name, "nothing"))
