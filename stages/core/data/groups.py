"""Which test rows belong together, so that they do not count as independent."""

from collections.abc import Sequence

import numpy as np

from stages.core.data.records import Record

FEW = 10
"""Groups below which bounds rest on too little (Cameron, Gelbach and Miller, 2008, warn of fewer than some ten)."""


def get_groups(records: Sequence[Record]) -> np.ndarray | None:
    """The number of each row's group: that of `data.group`, else of rows with an equal question.

    Returns:
        Numbers from 0, shape (rows,); None where every row is a group of its own.
    """
    names: dict[str, int] = {}
    numbers = [names.setdefault(_name(record), len(names)) for record in records]
    return np.array(numbers) if len(names) < len(records) else None


def count_groups(records: Sequence[Record]) -> int:
    """The number of groups; that of the rows where each is one."""
    groups = get_groups(records)
    return len(records) if groups is None else int(groups.max()) + 1


def _name(record: Record) -> str:
    group = record.meta.get("group")
    return (
        f"group {group}"
        if group is not None
        else f"question {' '.join(record.question.casefold().split())}"
    )
