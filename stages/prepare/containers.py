"""Rows out of the containers that people use: JSONL, JSON, CSV, TSV, Parquet and plain text."""

import csv
import io
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
        text = line.removeprefix(BOM).strip() if number == 1 else line.strip()
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
    text = stream.read().removeprefix(BOM)
    try:
        rows = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        yield _unreadable(name, error.lineno, text, error)
        return
    if not isinstance(rows, list):
        what = f"{type(rows).__name__} at the top"
        yield Finding("data_type", name, 1, "", what, "give a list of objects, or .jsonl")
        return
    yield from (Row(name, number, row) for number, row in enumerate(rows, start=1))


def _read_table(stream: BinaryIO, name: str, delimiter: str) -> Rows:
    csv.field_size_limit(2**31 - 1)  # a document is longer than the 128 KiB that csv takes for a mistake
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
        # It is read from its end: a packed one, which makes no sense and yet is met, must be unpacked into memory.
        file = stream if name.endswith(".parquet") else io.BytesIO(stream.read())
        for batch in ParquetFile(file).iter_batches(BATCH):
            for value in batch.to_pylist():
                number += 1
                yield Row(name, number, value)
    except ArrowInvalid as error:
        yield Finding("bad_json", name, number + 1, "", f"not Parquet: {error}", "write the file again")


def _read_text(stream: BinaryIO, name: str) -> Rows:
    """A row a paragraph: what stands between blank lines."""
    paragraph: list[bytes] = []
    first = 1
    for number, line in enumerate(chain(stream, [b""]), start=1):
        if line.strip():
            first = first if paragraph else number
            paragraph.append(line.removeprefix(BOM) if number == 1 else line)
        elif paragraph:
            text = b"".join(paragraph).strip()
            try:
                yield Row(name, first, {"text": text.decode()})
            except UnicodeDecodeError as wrong:
                found = f"byte {wrong.start + 1} of the paragraph is not UTF-8"
                yield Finding("encoding", name, first, "", found, "save the file as UTF-8")
            paragraph = []


READERS: dict[str, Callable[[BinaryIO, str], Rows]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".txt": _read_text,
    ".md": _read_text,
}
