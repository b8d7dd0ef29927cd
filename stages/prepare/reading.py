"""Turn rows into valid, unique records with their split, one at a time.

Memory holds only a few hashes per row.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from stages.core.config.schema import Config
from stages.core.data.records import SPLITS, Record
from stages.prepare.checks import SOFT, check_sample
from stages.prepare.duplicates import DuplicateFilter
from stages.prepare.findings import Finding, Findings
from stages.prepare.formats import FORMATS, Format, detect, rename
from stages.prepare.messages import shown
from stages.prepare.raw_examples import RawExample
from stages.prepare.readers import Row
from stages.prepare.source import Source
from stages.prepare.split import Splitter

NAMES = {name: name for name in SPLITS} | {
    "dev": "validation",
    "valid": "validation",
    "val": "validation",
}
SUGGESTED = {"question": "prompt", "query": "prompt", "input": "prompt"}
SUGGESTED |= {
    "answer": "completion",
    "response": "completion",
    "output": "completion",
    "target": "completion",
}
SUGGESTED |= {"content": "text", "body": "text", "category": "label"}


class Placed(NamedTuple):
    """A record with its split and its place in the source."""

    record: Record
    split: str
    file: str
    line: int


class Reader:
    """Reads a source once. The counts are final once all records have been consumed."""

    def __init__(self, config: Config, findings: Findings) -> None:
        self._data = config.data
        self._checks = config.checks
        self._kinds = set(config.train.record_types)
        self._findings = findings
        self.source = Source(config.data)
        self._splitter = Splitter(config.data.split, config.seed, self.source.given_splits())
        self._seen = DuplicateFilter()
        self.format: str | None = None if config.data.format == "auto" else config.data.format
        self.rows = self.records = 0
        self.labels: Counter[str] = Counter()

    @property
    def drawn(self) -> set[str]:
        """The splits into which rows are drawn."""
        return self._splitter.drawn

    def read(self) -> Iterator[Placed]:
        """Yield the records that are kept, with a progress bar after two seconds."""
        from tqdm import tqdm

        rows = islice(self.source.rows(), self._data.limit)
        for row in tqdm(rows, desc="rows", unit="row", delay=2, mininterval=1):
            self.rows += 1
            if isinstance(row, Finding):
                self._findings.add([row])
                continue
            record, found = self._read(row)
            split = self._splitter.choose(record, row.split) if record else None
            if record and split:
                found += self._seen.check(record, split, row.file, row.line)
            if self._findings.add(found) and record and split:
                self._seen.take(record, split)
                self.records += 1
                if "label" in record.meta:
                    self.labels[record.meta["label"]] += 1
                yield Placed(record, split, row.file, row.line)
        self._findings.add(self._about_all())

    def _read(self, row: Row) -> tuple[Record | None, list[Finding]]:
        if not isinstance(row.value, dict):
            what = f"{type(row.value).__name__} instead of an object"
            return None, [
                Finding("data_type", row.file, row.line, "", what, 'write {"messages": [...]}')
            ]
        value: dict[str, Any] = rename(row.value, self._data.column_mapping)
        self.format = self.format or detect(value)
        form = FORMATS[self.format] if self.format else None
        if form is None or (self.format != "chat" and not form.fits(value)):
            return None, [_unknown_format(row, value, form)]
        sample = form.convert(value)
        record, found = check_sample(row, sample, self._meta(sample, row.value))
        found = [self._in_their_words(finding) for finding in found + self._more(row, sample)]
        if record is None or {finding.code for finding in found} - SOFT:
            return None, found
        return record, [replace(finding, record=record.id) for finding in found]

    def _more(self, row: Row, sample: RawExample) -> list[Finding]:
        """Find a record of the wrong kind for the training method, or an unknown split."""
        found = []
        if sample.kind not in self._kinds:
            what = f"a record of kind {sample.kind}"
            todo = f"the training method needs {', '.join(sorted(self._kinds))}"
            found.append(
                Finding(
                    "wrong_record_type",
                    row.file,
                    row.line,
                    "",
                    what,
                    f"{todo}; choose another `train` option",
                )
            )
        column = self._data.split.column
        if column and _split_name(row.value.get(column)) not in SPLITS:
            what = shown(row.value.get(column))
            todo = f"use one of {', '.join(NAMES)}"
            found.append(Finding("unknown_split", row.file, row.line, column, what, todo))
        return found

    def _meta(self, sample: RawExample, value: dict[str, Any]) -> dict[str, Any]:
        data = self._data
        label = value.get(data.label_column) if data.label_column else sample.label
        meta: dict[str, Any] = {} if label is None else {"label": str(label)}
        if data.group_column and value.get(data.group_column) is not None:
            meta["group"] = str(value[data.group_column])
        if data.group_starts:
            meta["group"] = str(bisect_right(data.group_starts, self.rows) + 1)
        if data.split.column:
            meta["split"] = _split_name(value.get(data.split.column))
        kept = {
            column: _plain(value[column]) for column in data.metadata_columns if column in value
        }
        return meta | ({"columns": kept} if kept else {})

    def _in_their_words(self, finding: Finding) -> Finding:
        """Rename the field of a finding to the name that the file uses."""
        root = finding.field.split(".")[0].split("[")[0]
        theirs = self._data.column_mapping.get(root)
        return replace(finding, field=theirs + finding.field[len(root) :]) if theirs else finding

    def _about_all(self) -> list[Finding]:
        name = self._data.name
        found = []
        if self.records < self._checks.min_rows:
            what = f"{self.records} valid rows"
            todo = f"give at least {self._checks.min_rows} (checks.min_rows)"
            found.append(Finding("too_few_rows", name, 0, "", what, todo))
        # If most labels occur only once, the label is free text and not a class.
        once = [label for label, count in self.labels.items() if count == 1]
        if len(once) * 2 < len(self.labels):
            todo = "add rows with this label, or merge it with another label"
            field = self._data.label_column or self._data.column_mapping.get("label", "label")
            found += [
                Finding("label_seen_once", name, 0, field, f"{shown(label)} in one row only", todo)
                for label in once
            ]
        return found


def _split_name(value: Any) -> str:
    return NAMES.get(str(value).strip().lower(), "")


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold. Lists, dates and very large integers become text."""
    small = isinstance(value, int) and abs(value) < 2**53
    return value if value is None or small or isinstance(value, str | float | bool) else str(value)


def _unknown_format(row: Row, value: dict[str, Any], wanted: Format | None) -> Finding:
    expected = (
        wanted.describe() if wanted else "; or ".join(form.describe() for form in FORMATS.values())
    )
    guess = {ours: theirs for theirs, ours in SUGGESTED.items() if theirs in value}
    pair = next(
        (p for p in (("prompt", "completion"), ("text", "label")) if set(p) <= set(guess)), ()
    )
    mapping = ", ".join(f"{ours}: {guess[ours]}" for ours in pair)
    todo = (
        f"try -S '+data.column_mapping={{{mapping}}}'"
        if mapping
        else f"expected {expected}; map other names with data.column_mapping"
    )
    return Finding(
        "unknown_format",
        row.file,
        row.line,
        "",
        f"columns {', '.join(sorted(map(str, value)))}",
        todo,
    )
