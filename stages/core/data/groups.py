"""Groups of test rows that belong together and do not count as independent."""

from collections.abc import Sequence

import numpy as np

from stages.core.data.records import Record
from stages.core.data.unicode_text import fold

FEW = 10
"""The number of groups below which bounds are unreliable.

Cameron, Gelbach and Miller (2008) warn against fewer than about ten.
"""


def get_groups(records: Sequence[Record]) -> np.ndarray | None:
    """Number the group of each row.

    Rows are grouped by `data.group_column`. Rows without such a group are grouped by equal
    questions.

    Returns:
        Numbers from 0, shape (rows,), or None if every row is a group of its own.
    """
    names: dict[str, int] = {}
    numbers = [names.setdefault(_name(record), len(names)) for record in records]
    return np.array(numbers) if len(names) < len(records) else None


def count_groups(records: Sequence[Record]) -> int:
    """Count the groups of the rows; a row without companions is a group of its own."""
    groups = get_groups(records)
    return len(records) if groups is None else int(groups.max()) + 1


def _name(record: Record) -> str:
    group = record.meta.get("group")
    return f"question {fold(record.question)}" if group is None else f"group {group}"
