"""Read rows from JSONL, JSON and plain text files, and choose the reader of a file."""

import re
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import BinaryIO

import orjson

from stages.prepare.findings import Finding
from stages.prepare.sources.encodings import decode, not_utf8, reports_encoding, text_lines
from stages.prepare.sources.json_values import TOO_DEEP, find_deepest, parse
from stages.prepare.sources.rows import Row, Rows
from stages.prepare.sources.tables import read_parquet, read_table


@reports_encoding
def _read_jsonl(stream: BinaryIO, name: str) -> Rows:
    for number, line in text_lines(stream, name):
        text = line.rstrip()
        if not text:
            continue
        try:
            yield Row(name, number, parse(text))
        except orjson.JSONDecodeError as error:
            yield _unreadable(name, number, text, error)


def _unreadable(name: str, number: int, text: bytes, error: orjson.JSONDecodeError) -> Finding:
    """Build the finding about invalid JSON in a text that begins at line `number`."""
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return not_utf8(name, number, text, wrong)
    what = f"column {error.colno}: invalid JSON: {error.msg}"
    return Finding(
        "bad_json",
        name,
        number + error.lineno - 1,
        "",
        what,
        "fix the JSON; a .jsonl file needs one object per line",
    )


@reports_encoding
def _read_json(stream: BinaryIO, name: str) -> Rows:
    text = b"".join(line for _, line in text_lines(stream, name))
    try:
        rows = parse(text)
    except orjson.JSONDecodeError as error:
        yield _unreadable(name, 1, text, error)
        return
    if rows is TOO_DEEP:
        # What the other rows lose cannot be seen, so none is read.
        path = find_deepest(orjson.loads(text))
        yield Finding("bad_json", name, 1, path, TOO_DEEP.what, TOO_DEEP.todo)
    elif isinstance(rows, list):
        yield from (Row(name, number, row) for number, row in enumerate(rows, start=1))
    else:
        what = f"{type(rows).__name__} at the top level"
        yield Finding("data_type", name, 1, "", what, "use a list of objects, or a .jsonl file")


@reports_encoding
def _read_text(stream: BinaryIO, name: str) -> Rows:
    """Read each paragraph as a row. Blank lines separate paragraphs."""
    paragraph: list[bytes] = []
    first = 1
    for number, line in chain(text_lines(stream, name), [(0, b"")]):
        if line.strip():
            first = first if paragraph else number
            paragraph.append(line)
        elif paragraph:
            text = decode(b"".join(paragraph), name, first)
            yield text if isinstance(text, Finding) else Row(name, first, {"text": text.strip()})
            paragraph = []


@reports_encoding
def read_matches(stream: BinaryIO, name: str, pattern: re.Pattern[str]) -> Rows:
    """Read each line as a row.

    The pattern must match the whole line, and its named groups become the columns.

    Args:
        stream: The bytes of the file.
        name: The name of the file for the findings.
        pattern: The regular expression of `data.lines`.
    """
    for number, line in text_lines(stream, name):
        text = decode(line.rstrip(), name, number)
        if not text:
            continue
        if isinstance(text, Finding):
            yield text
        elif match := pattern.fullmatch(text):
            yield Row(name, number, match.groupdict())
        else:
            todo = "fix the line or the expression"
            yield Finding("bad_json", name, number, "", "the line does not match data.lines", todo)


READERS: dict[str, Callable[[BinaryIO, str], Rows]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": partial(read_table, delimiter=","),
    ".tsv": partial(read_table, delimiter="\t"),
    ".parquet": read_parquet,
    ".txt": _read_text,
    ".md": _read_text,
}
TEXT = (".txt", ".md")
"""The extensions to which `data.lines` applies."""
