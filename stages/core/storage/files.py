"""Atomic writes of files and folders, and the JSON and JSONL files that stages exchange."""

import errno
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from stages.core.errors import UserError
from stages.core.storage.leftovers import (
    ASIDE,
    PARTIAL,
    find_leftovers,
    remove,
    remove_leftovers,
    temporary_path,
)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` if the block ends without an exception.

    The earlier `target` is first renamed to a folder beside it. If an earlier process was killed
    before it finished, the folder that it renamed is restored first. If several processes replace
    the same folder, each has a temporary folder of its own, and the last one to finish wins.
    """
    partial = temporary_path(target, PARTIAL)
    _clean_up_after_killed(target)
    partial.mkdir(parents=True)
    try:
        with _full_disk_named(target):
            yield partial
            _replace(target, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _full_disk_named(target: Path) -> Iterator[None]:
    """Add the path to an error of a write, which does not know it."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(target)
        raise


def _clean_up_after_killed(target: Path) -> None:
    """Restore or remove what killed processes left of a folder that they were replacing."""
    remove_leftovers(target.parent, target.name)
    for aside in find_leftovers(target.parent, ASIDE, target.name):
        if target.exists():
            remove(aside)
        else:
            aside.rename(target)


def _replace(target: Path, partial: Path) -> None:
    aside = temporary_path(target, ASIDE)
    while True:
        remove(aside)
        with suppress(FileNotFoundError):
            target.rename(aside)
        try:
            partial.rename(target)
            break
        except OSError as error:
            # Another process put its folder there in this moment.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    remove(aside)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which is renamed to `target` after the block.

    If the block raises an exception, the temporary file is removed. No reader sees a partial file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = temporary_path(target, PARTIAL)
    try:
        with _full_disk_named(target):
            yield partial
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def atomic_write(target: Path, data: bytes) -> None:
    """Write `data` to a temporary file and rename it, so that no reader sees a partial file."""
    with atomic_file(target) as partial:
        partial.write_bytes(data)


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented JSON and keep the order of its keys."""
    atomic_write(
        target, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )


def write_jsonl(target: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value per line; dataclasses become objects.

    If there are no rows, the file has one empty line, because DVC warns about empty files.
    """
    lines = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    atomic_write(target, lines or b"\n")


def open_output(path: Path) -> BinaryIO:
    """Open a file that a stage wrote, to read its bytes.

    Raises:
        UserError: The file does not exist.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist: run `dvc repro`, which runs the stage that writes it"
        ) from None


def read_json(path: Path) -> Any:
    """Read a JSON file that a stage wrote.

    Raises:
        UserError: The file does not exist.
    """
    with open_output(path) as file:
        return orjson.loads(file.read())


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file that a stage wrote.

    Raises:
        UserError: The file does not exist.
    """
    with open_output(path) as file:
        return [orjson.loads(line) for line in file.read().splitlines() if line]


def sha256_file(path: Path) -> str:
    """Compute the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Compute the SHA-256, in hex, of a JSON value with sorted keys."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
