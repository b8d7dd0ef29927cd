"""Rows from where they lie: files, globs, URLs and wheels, in the containers that people use."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import orjson

from stages.core.config import FileSource, WheelSource
from stages.core.errors import UserError
from stages.core.wheels import get_member
from stages.prepare.findings import Finding

PACKED = {".gz", ".bz2", ".xz"}
BATCH = 10_000  # rows of a Parquet file in memory at once


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source."""

    file: str
    line: int
    """From 1: the line, or the row where the container has no lines."""
    value: Any


Rows = Iterator[Row | Finding]


def read_rows(source: WheelSource | FileSource) -> Rows:
    """Every row, in the order of the files and of their rows; in place of a row that cannot be read, a finding.

    Raises:
        UserError: there is no such file, or its name does not tell its container.
    """
    from fsspec import open_files

    pattern = str(get_member(source)) if isinstance(source, WheelSource) else source.path
    try:
        files = open_files(pattern, "rb", compression="infer")
        there = [file for file in files if file.fs.exists(file.path)]
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{pattern}: cannot be opened (data.source.path): {error}") from None
    if not there:
        raise UserError(
            f"{pattern}: there is no such file (data.source.path, relative to the root of the repository). A queued or "
            f"temporary experiment sees only files that git or DVC tracks: `git add` or `dvc add` it."
        )
    for file in there:
        name = PurePosixPath(file.path).name if len(there) > 1 or isinstance(source, WheelSource) else pattern
        with file as stream:
            yield from _reader(file.path)(stream, name)


def _reader(path: str) -> Callable[[BinaryIO, str], Rows]:
    kinds = [suffix.lower() for suffix in PurePosixPath(path).suffixes if suffix.lower() not in PACKED]
    if not kinds or kinds[-1] not in READERS:
        raise UserError(f"{path}: its name does not tell its kind; expected {', '.join(READERS)}, also with .gz behind")
    return READERS[kinds[-1]]


def _read_jsonl(stream: BinaryIO, name: str) -> Rows:
    for number, line in enumerate(stream, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if not text:
            continue
        try:
            yield Row(name, number, orjson.loads(text))
        except orjson.JSONDecodeError as error:
            yield _unreadable(name, number, text, error)


def _unreadable(name: str, number: int, text: bytes, error: orjson.JSONDecodeError) -> Finding:
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return Finding("encoding", name, number, "", f"byte {wrong.start + 1} is not UTF-8", "save the file as UTF-8")
    what = f"column {error.colno}: not JSON: {error.msg}"
    return Finding("bad_json", name, number, "", what, "write one JSON object a line")


def _read_json(stream: BinaryIO, name: str) -> Rows:
    text = stream.read().removeprefix(b"\xef\xbb\xbf")
    try:
        rows = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        yield _unreadable(name, error.lineno, text, error)
        return
    if not isinstance(rows, list):
        yield Finding(
            "data_type", name, 1, "", f"{type(rows).__name__} at the top", "give a list of objects, or .jsonl"
        )
        return
    yield from (Row(name, number, row) for number, row in enumerate(rows, start=1))


def _read_table(stream: BinaryIO, name: str, delimiter: str) -> Rows:
    reader = csv.DictReader(io.TextIOWrapper(stream, "utf-8-sig", newline=""), delimiter=delimiter, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            yield Finding("encoding", name, reader.line_num + 1, "", f"not UTF-8: {error}", "save the file as UTF-8")
            return
        except csv.Error as error:
            yield Finding("bad_json", name, reader.line_num, "", f"not CSV: {error}", "mend the quotes of this row")
            continue
        if None in row or None in row.values():
            what = f"another number of fields than the {len(reader.fieldnames or [])} of the header"
            yield Finding("bad_json", name, reader.line_num, "", what, "quote fields that hold the delimiter")
        else:
            yield Row(name, reader.line_num, row)


def _read_csv(stream: BinaryIO, name: str) -> Rows:
    return _read_table(stream, name, ",")


def _read_tsv(stream: BinaryIO, name: str) -> Rows:
    return _read_table(stream, name, "\t")


def _read_parquet(stream: BinaryIO, name: str) -> Rows:
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        for batch in ParquetFile(stream).iter_batches(BATCH):
            for value in batch.to_pylist():
                number += 1
                yield Row(name, number, value)
    except ArrowInvalid as error:
        yield Finding("bad_json", name, number + 1, "", f"not Parquet: {error}", "write the file again")


READERS: dict[str, Callable[[BinaryIO, str], Rows]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
