"""What a source yields, whatever its container: rows, headers of tables, and findings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stages.prepare.findings import Finding


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source."""

    file: str
    line: int
    """The line, counted from 1. In a container without lines it is the number of the row."""
    value: Any
    split: str | None = None
    """The split, if the source gives one."""


@dataclass(frozen=True, slots=True)
class Header:
    """The columns that all rows of a table have. It comes before the rows."""

    file: str
    line: int
    columns: list[str]


Rows = Iterator[Row | Finding | Header]
