"""Groups of test rows that belong together and do not count as independent."""

from collections.abc import Mapping, Sequence

import numpy as np

from stages.core.data.records import Record
from stages.core.data.unicode_text import fold


def get_groups(records: Sequence[Record]) -> np.ndarray | None:
    """Number the group of each row.

    Near-duplicates have nearly the same question and answer, so a model has all of them right or
    all of them wrong: a cluster counts as one observation. Other rows are grouped by
    `data.group_column`, and rows without such a group by equal questions.

    Returns:
        Numbers from 0, shape (rows,), or None if every row is a group of its own.
    """
    clusters = {
        _question(record): record.meta["cluster"] for record in records if "cluster" in record.meta
    }
    names: dict[str, int] = {}
    numbers = [names.setdefault(_name(record, clusters), len(names)) for record in records]
    return np.array(numbers) if len(names) < len(records) else None


def count_groups(records: Sequence[Record]) -> int:
    """Count the groups of the rows; a row without companions is a group of its own."""
    groups = get_groups(records)
    return len(records) if groups is None else int(groups.max()) + 1


def _name(record: Record, clusters: Mapping[str, str]) -> str:
    group = record.meta.get("group")
    question = _question(record)
    cluster = record.meta.get("cluster") or (clusters.get(question) if group is None else None)
    if cluster:
        return f"cluster {cluster}"
    return f"group {group}" if group is not None else f"question {question}"


def _question(record: Record) -> str:
    return fold(record.question)
