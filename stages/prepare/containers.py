"""Rows out of the containers that people use: JSONL, JSON, CSV, TSV, Parquet and plain text."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

import orjson

from stages.prepare.findings import Finding

BATCH = 10_000  # rows of a Parquet file in memory at once
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source."""

    file: str
    line: int
    """From 1: the line, or the row where the container has no lines."""
    value: Any
    split: str | None = None
    """Where it is given."""


Rows = Iterator[Row | Finding]


def _read_jsonl(stream: BinaryIO, name: str) -> Rows:
    for number, line in enumerate(stream, start=1):
        text = (line.removeprefix(BOM) if number == 1 else line).rstrip()
        if not text:
            continue
        try:
            yield Row(name, number, orjson.loads(text))
        except orjson.JSONDecodeError as error:
            yield _unreadable(name, number, text, error)


def _unreadable(name: str, number: int, text: bytes, error: orjson.JSONDecodeError) -> Finding:
    """The finding about bad JSON that begins in line `number`."""
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return _not_utf8(name, number, text, wrong)
    what = f"column {error.colno}: not JSON: {error.msg}"
    return Finding(
        "bad_json", name, number + error.lineno - 1, "", what, "write one JSON object a line"
    )


def _not_utf8(name: str, first: int, text: bytes, error: UnicodeDecodeError) -> Finding:
    """The finding about a text that begins in line `first`, with the line and the byte in it."""
    line = first + text.count(b"\n", 0, error.start)
    byte = error.start - text.rfind(b"\n", 0, error.start)
    return Finding(
        "encoding", name, line, "", f"byte {byte} is not UTF-8", "save the file as UTF-8"
    )


def _read_json(stream: BinaryIO, name: str) -> Rows:
    text = stream.read().removeprefix(BOM)
    try:
        rows = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        yield _unreadable(name, 1, text, error)
        return
    if not isinstance(rows, list):
        what = f"{type(rows).__name__} at the top"
        yield Finding("data_type", name, 1, "", what, "give a list of objects, or .jsonl")
        return
    yield from (Row(name, number, row) for number, row in enumerate(rows, start=1))


def _read_table(stream: BinaryIO, name: str, delimiter: str) -> Rows:
    csv.field_size_limit(
        2**31 - 1
    )  # a document is longer than the 128 KiB that csv takes for a mistake
    bad: list[tuple[int, Finding]] = []  # lines that are not UTF-8
    reader = csv.reader(_decode(stream, name, bad), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Finding(
                "bad_json", name, first, "", f"not CSV: {error}", "mend the quotes of this row"
            )
            continue
        if wrong := [finding for line, finding in bad if line >= first]:
            yield wrong[0]
            if header is None:
                return
        elif header is None:
            header = fields
        elif fields and len(fields) != len(header):
            what = f"{len(fields)} fields and not the {len(header)} of the header"
            yield Finding("bad_json", name, first, "", what, "quote fields that hold the delimiter")
        elif fields:
            yield Row(name, first, dict(zip(header, fields, strict=True)))


def _decode(stream: BinaryIO, name: str, bad: list[tuple[int, Finding]]) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        text = line.removeprefix(BOM) if number == 1 else line
        try:
            yield text.decode()
        except UnicodeDecodeError as wrong:
            bad[:] = [(number, _not_utf8(name, number, text, wrong))]
            yield text.decode(errors="replace")


def _read_csv(stream: BinaryIO, name: str) -> Rows:
    return _read_table(stream, name, ",")


def _read_tsv(stream: BinaryIO, name: str) -> Rows:
    return _read_table(stream, name, "\t")


def _read_parquet(stream: BinaryIO, name: str) -> Rows:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    # It is read from its end: a packed one, which makes no sense and yet is met, must be unpacked into memory.
    file = stream if name.endswith(".parquet") else io.BytesIO(stream.read())
    try:
        for batch in ParquetFile(file).iter_batches(BATCH):
            for value in _to_rows(batch):
                number += 1
                yield (
                    Row(name, number, value)
                    if isinstance(value, dict)
                    else _unknown_value(name, number, value)
                )
    except ArrowException as error:
        yield Finding(
            "bad_json", name, number + 1, "", f"not Parquet: {error}", "write the file again"
        )


def _to_rows(batch: Any) -> list[Any]:
    """The rows of a batch; one that Python cannot hold is the error that it made."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError) as error:
        if len(batch) == 1:
            return [error]
        return [row for i in range(len(batch)) for row in _to_rows(batch.slice(i, 1))]


def _unknown_value(name: str, number: int, error: Exception) -> Finding:
    if isinstance(error, UnicodeDecodeError):
        return _not_utf8(name, number, b"", error)
    return Finding(
        "bad_json", name, number, "", f"a value that cannot be read: {error}", "leave it out"
    )


def _read_text(stream: BinaryIO, name: str) -> Rows:
    """A row a paragraph: what stands between blank lines."""
    paragraph: list[bytes] = []
    first = 1
    for number, line in enumerate(chain(stream, [b""]), start=1):
        text = line.removeprefix(BOM) if number == 1 else line
        if text.strip():
            first = first if paragraph else number
            paragraph.append(text)
        elif paragraph:
            whole = b"".join(paragraph)
            try:
                yield Row(name, first, {"text": whole.decode().strip()})
            except UnicodeDecodeError as wrong:
                yield _not_utf8(name, first, whole, wrong)
            paragraph = []


def read_matches(stream: BinaryIO, name: str, pattern: re.Pattern[str]) -> Rows:
    """A row a line: the named groups of the pattern that the line matches as a whole."""
    for number, line in enumerate(stream, start=1):
        text = (line.removeprefix(BOM) if number == 1 else line).rstrip()
        if not text:
            continue
        try:
            match = pattern.fullmatch(text.decode())
        except UnicodeDecodeError as wrong:
            yield _not_utf8(name, number, text, wrong)
            continue
        if match:
            yield Row(name, number, match.groupdict())
        else:
            todo = "mend the line, or the expression"
            yield Finding(
                "bad_json", name, number, "", "a line that data.lines does not match", todo
            )


READERS: dict[str, Callable[[BinaryIO, str], Rows]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".txt": _read_text,
    ".md": _read_text,
}
TEXT = (".txt", ".md")  # what `data.lines` is for
