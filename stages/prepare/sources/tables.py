"""Read rows from CSV, TSV and Parquet files, whose rows all have the same columns."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from stages.prepare.findings import Finding
from stages.prepare.sources.encodings import decode, not_utf8, reports_encoding, text_lines
from stages.prepare.sources.rows import Header, Row, Rows

BATCH = 1_000  # rows of a Parquet file in memory at once, at most
BATCH_BYTES = 16_000_000  # of their values, as the file tells it


@reports_encoding
def read_table(stream: BinaryIO, name: str, delimiter: str) -> Rows:
    """Read a file of separated values, whose first row names the columns."""
    # csv rejects fields over 128 KiB by default, and documents can be longer.
    csv.field_size_limit(2**31 - 1)
    bad: list[Finding] = []  # the last line that cannot be decoded
    reader = csv.reader(_decoded(stream, name, bad), delimiter=delimiter, strict=True)
    header: list[str] = []
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
        if wrong := [finding for finding in bad if finding.line >= first]:
            yield wrong[0]
            if not header:
                return
        elif fields and not header:
            header = fields
            yield (checked := _check_header(name, first, header))
            if isinstance(checked, Finding):
                return
        elif fields:
            yield _check_fields(name, first, fields, header)


def _decoded(stream: BinaryIO, name: str, bad: list[Finding]) -> Iterator[str]:
    for number, line in text_lines(stream, name):
        text = decode(line, name, number)
        if isinstance(text, Finding):
            bad[:] = [text]
            text = line.decode(errors="replace")
        yield text


def _check_header(name: str, line: int, columns: Sequence[str]) -> Header | Finding:
    """Return the header of a table, or a finding if two of its columns have the same name.

    Columns without a name are ignored, because spreadsheets write them and no format reads them.
    """
    places: dict[str, list[int]] = {}
    for place, column in enumerate(columns, start=1):
        places.setdefault(column, []).append(place)
    for column, where in places.items():
        if column.strip() and len(where) > 1:
            what = f"columns {' and '.join(map(str, where))} are all named {column[:50]!r}"
            todo = "give each column a name of its own, so that it is clear which one is meant"
            return Finding("bad_json", name, line, "", what, todo)
    return Header(name, line, list(columns))


def _check_fields(name: str, line: int, fields: list[str], header: list[str]) -> Row | Finding:
    if len(fields) != len(header):
        what = f"{len(fields)} fields, but the header has {len(header)}"
        return Finding("bad_json", name, line, "", what, "quote fields with a delimiter in them")
    if fields == header:
        what = "the header again, as if two files were joined"
        return Finding("bad_json", name, line, "", what, "remove the line")
    return Row(name, line, dict(zip(header, fields, strict=True)))


def read_parquet(stream: BinaryIO, name: str) -> Rows:
    """Read a Parquet file, in batches."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    # Parquet is read from its end, so a compressed Parquet file must be unpacked into memory.
    file = stream if name.endswith(".parquet") else io.BytesIO(stream.read())
    try:
        table = ParquetFile(file)
        yield (checked := _check_header(name, 1, table.schema_arrow.names))
        if isinstance(checked, Finding):
            return
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
    except (ValueError, OverflowError, KeyError) as error:  # KeyError: an unknown time zone
        if len(batch) == 1:
            return [error]
        return [row for i in range(len(batch)) for row in _to_rows(batch.slice(i, 1))]


def _unknown_value(name: str, number: int, error: Exception) -> Finding:
    if isinstance(error, UnicodeDecodeError):
        return not_utf8(name, number, b"", error)
    return Finding(
        "bad_json", name, number, "", f"a value that cannot be read: {error}", "remove it"
    )
