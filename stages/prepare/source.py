"""Rows of JSON objects from where they lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from stages.core.config import FileSource, WheelSource
from stages.core.errors import UserError
from stages.core.wheels import get_member


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a source."""

    line: int
    """From 1."""
    value: Any


def get_file(source: WheelSource | FileSource) -> Path:
    """The local file of the source.

    Raises:
        UserError: it cannot be had.
    """
    if isinstance(source, WheelSource):
        return get_member(source)
    path = Path(source.path)
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file (data.source.path, relative to the root of the repository). "
            f"A queued or temporary experiment sees only files that git or DVC tracks: `git add` or `dvc add` it."
        )
    return path


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """The rows of a JSONL file, blank lines left out, and for each line that is not JSON what is wrong with it."""
    rows, problems = [], []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(Row(number, orjson.loads(line)))
        except orjson.JSONDecodeError as error:
            problems.append(f"line {number}, column {error.colno}: not JSON: {error.msg}")
    return rows, problems
