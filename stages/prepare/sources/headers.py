"""Judge the columns of a row, or of all rows of a table, and suggest what to type."""

from collections.abc import Sequence
from pathlib import PurePath

from stages.core.config.data import DataConfig
from stages.prepare.findings import Finding
from stages.prepare.formats import FORMATS, Format, rename
from stages.prepare.sources.commands import convert
from stages.prepare.sources.rows import Header

SUGGESTED = {"question": "prompt", "query": "prompt", "input": "prompt"}
SUGGESTED |= {
    "answer": "completion",
    "response": "completion",
    "output": "completion",
    "target": "completion",
}
SUGGESTED |= {"content": "text", "body": "text", "category": "label"}
SEPARATORS = ";\t|,"
ANY = "; or ".join(form.describe() for form in FORMATS.values())
SHOWN = 500  # characters of the names of the columns in a finding


def check_header(header: Header, data: DataConfig, wanted: Format | None) -> list[Finding]:
    """Return the findings that hold for every row of a table, so that its rows need not be read.

    Args:
        header: The columns of the table.
        data: The configuration, which may map columns and name those of labels and groups.
        wanted: The format of the rows, or None if any will do.
    """
    columns = rename(dict.fromkeys(header.columns), data.column_mapping)
    if not any(form.fits(columns) for form in ([wanted] if wanted else FORMATS.values())):
        return [unknown_format(header.file, header.line, header.columns, wanted)]
    named = {
        "data.label_column": data.label_column,
        "data.group_column": data.group_column,
        "data.split.column": data.split.column,
    }
    return [
        Finding(
            "unknown_format",
            header.file,
            header.line,
            "",
            f"no column {column!r} among {_list(header.columns)}",
            f"set {key} to a column of the file, or to null",
        )
        for key, column in named.items()
        if column and column not in header.columns
    ]


def unknown_format(file: str, line: int, columns: Sequence[str], wanted: Format | None) -> Finding:
    """Build the finding that a row, or a whole table, lacks the columns of the format."""
    return Finding(
        "unknown_format",
        file,
        line,
        "",
        f"columns {_list(columns)}",
        _advise(file, columns, wanted),
    )


def _list(columns: Sequence[str]) -> str:
    names = ", ".join(sorted(map(str, columns)))
    return names if len(names) <= SHOWN else f"{names[:SHOWN]}…"


def _advise(file: str, columns: Sequence[str], wanted: Format | None) -> str:
    if len(columns) == 1 and (separator := _separator(file, columns[0])):
        return separator
    guess = {ours: theirs for theirs, ours in SUGGESTED.items() if theirs in columns}
    pairs = (("prompt", "completion"), ("text", "label"))
    for ours, other in pairs:
        if {ours, other} <= set(guess):
            mapping = f"{ours}: {guess[ours]}, {other}: {guess[other]}"
            return f"try -S '+data.column_mapping={{{mapping}}}'"
    return (
        f"expected {wanted.describe() if wanted else ANY}; map other names with data.column_mapping"
    )


def _separator(file: str, column: str) -> str:
    """Say how to convert a table whose only column seems to be several, or return an empty text."""
    suffixes = {suffix.lower() for suffix in PurePath(file).suffixes}
    used = next((mark for mark in SEPARATORS if mark in str(column)), None)
    if used is None or not suffixes & {".csv", ".tsv"}:
        return ""
    if used == "\t" or (used == "," and ".tsv" in suffixes):
        name = "tabs" if used == "\t" else "commas"
        wanted = ".tsv" if used == "\t" else ".csv"
        return f"the columns are separated by {name}: rename the file to {wanted}"
    copy = f"csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, delimiter={used!r}))"
    command = convert(file, f'python -c "import csv, sys; {copy}"', "commas")
    return f"the columns are separated by {used}, but expected commas: {command}"
