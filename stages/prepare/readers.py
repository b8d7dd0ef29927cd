"""Read rows from JSONL, JSON, CSV, TSV, Parquet and plain text files."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

import orjson

from stages.prepare.findings import Finding

BATCH = 1_000  # rows of a Parquet file in memory at once, at most
BATCH_BYTES = 16_000_000  # of their values, as the file tells it
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source."""

    file: str
    line: int
    """The line, counted from 1. In a container without lines it is the number of the row."""
    value: Any
    split: str | None = None
    """The split, if the source gives one."""


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
    """Build the finding about invalid JSON in a text that begins at line `number`."""
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return _not_utf8(name, number, text, wrong)
    what = f"column {error.colno}: invalid JSON: {error.msg}"
    return Finding(
        "bad_json",
        name,
        number + error.lineno - 1,
        "",
        what,
        "fix the JSON; a .jsonl file needs one object per line",
    )


def _not_utf8(name: str, first: int, text: bytes, error: UnicodeDecodeError) -> Finding:
    """Build the finding about the first invalid byte of a text that begins at line `first`."""
    line = first + text.count(b"\n", 0, error.start)
    byte = error.start - text.rfind(b"\n", 0, error.start)
    return Finding(
        "encoding", name, line, "", f"byte {byte} is not valid UTF-8", "save the file as UTF-8"
    )


def _read_json(stream: BinaryIO, name: str) -> Rows:
    text = stream.read().removeprefix(BOM)
    try:
        rows = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        yield _unreadable(name, 1, text, error)
        return
    if not isinstance(rows, list):
        what = f"{type(rows).__name__} at the top level"
        yield Finding("data_type", name, 1, "", what, "use a list of objects, or a .jsonl file")
        return
    yield from (Row(name, number, row) for number, row in enumerate(rows, start=1))


def _read_table(stream: BinaryIO, name: str, delimiter: str) -> Rows:
    # csv rejects fields over 128 KiB by default, and documents can be longer.
    csv.field_size_limit(2**31 - 1)
    bad: list[tuple[int, Finding]] = []  # the last line that is not valid UTF-8
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
                "bad_json", name, first, "", f"invalid CSV: {error}", "fix the quotes of this row"
            )
            continue
        if wrong := [finding for line, finding in bad if line >= first]:
            yield wrong[0]
            if header is None:
                return
        elif header is None:
            header = fields
        elif fields and len(fields) != len(header):
            what = f"{len(fields)} fields, but the header has {len(header)}"
            yield Finding(
                "bad_json", name, first, "", what, "quote fields with a delimiter in them"
            )
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
    # Parquet is read from its end, so a compressed Parquet file must be unpacked into memory.
    file = stream if name.endswith(".parquet") else io.BytesIO(stream.read())
    try:
        table = ParquetFile(file)
        for batch in table.iter_batches(_count_batch_rows(table.metadata)):
            for value in _to_rows(batch):
                number += 1
                yield (
                    Row(name, number, value)
                    if isinstance(value, dict)
                    else _unknown_value(name, number, value)
                )
    except ArrowException as error:
        yield Finding(
            "bad_json", name, number + 1, "", f"invalid Parquet: {error}", "write the file again"
        )


def _count_batch_rows(metadata: Any) -> int:
    """Return how many rows fit into a batch, if all are as large as those of the largest group."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    largest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1)
    return max(1, min(BATCH, int(BATCH_BYTES / max(largest, 1))))


def _to_rows(batch: Any) -> list[Any]:
    """Convert a batch to rows, with an error in place of each row that Python cannot represent."""
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
        "bad_json", name, number, "", f"a value that cannot be read: {error}", "remove it"
    )


def _read_text(stream: BinaryIO, name: str) -> Rows:
    """Read each paragraph as a row. Blank lines separate paragraphs."""
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
    """Read each line as a row.

    The pattern must match the whole line, and its named groups become the columns.

    Args:
        stream: The bytes of the file.
        name: The name of the file for the findings.
        pattern: The regular expression of `data.lines`.
    """
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
            todo = "fix the line or the expression"
            yield Finding("bad_json", name, number, "", "the line does not match data.lines", todo)


READERS: dict[str, Callable[[BinaryIO, str], Rows]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".txt": _read_text,
    ".md": _read_text,
}
TEXT = (".txt", ".md")
"""The extensions to which `data.lines` applies."""
