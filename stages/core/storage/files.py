"""Files that appear whole or not at all, and the two formats that pass between stages."""

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from stages.core.errors import UserError


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its place when the block ends without an exception.

    The earlier `target` steps aside by a rename; one that a killed process left aside comes back first.
    """
    partial = target.with_name(f".{target.name}.partial")
    aside = target.with_name(f".{target.name}.aside")
    if aside.exists() and not target.exists():
        aside.rename(target)
    for left in (partial, aside):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.exists():
            target.rename(aside)
        partial.rename(target)
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target` by way of a file beside it, so that no reader ever sees a half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented JSON, keys in the order given."""
    write_bytes(target, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def write_jsonl(target: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line (dataclasses become objects).

    Where there are no rows there is an empty line: DVC warns of a file without a byte whenever it looks at it.
    """
    lines = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    write_bytes(target, lines or b"\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that a stage wrote.

    Raises:
        UserError: the file is not there.
    """
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path} is not there: run `dvc repro`, which runs the stage that writes it"
        ) from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file that a stage wrote.

    Raises:
        UserError: the file is not there.
    """
    try:
        return [orjson.loads(line) for line in path.read_bytes().splitlines() if line]
    except FileNotFoundError:
        raise UserError(
            f"{path} is not there: run `dvc repro`, which runs the stage that writes it"
        ) from None


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256, in hex, of a JSON value with sorted keys."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
