"""Turn rows into valid, unique records with their split, one at a time.

Memory holds only a few hashes per row.
"""

import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from stages.core.config.schema import Config
from stages.core.data.records import SPLITS, Record
from stages.core.secret_formats import strings
from stages.prepare.checks import SOFT, check_sample, find_secrets
from stages.prepare.findings import Finding, Findings
from stages.prepare.formats import FORMATS, detect, rename
from stages.prepare.messages import shown
from stages.prepare.raw_examples import RawExample, as_text
from stages.prepare.similarity.duplicates import DuplicateFilter
from stages.prepare.sources.headers import check_header, unknown_format
from stages.prepare.sources.json_values import find_unusable
from stages.prepare.sources.limits import too_large
from stages.prepare.sources.rows import Header, Row, Rows
from stages.prepare.sources.source import Source
from stages.prepare.split import Splitter

NAMES = {name: name for name in SPLITS} | {
    "dev": "validation",
    "valid": "validation",
    "val": "validation",
}


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
        self.source = Source(config.data, config.checks)
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

        rows = islice(self._judge_headers(self.source.rows()), self._data.limit)
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

    def _judge_headers(self, rows: Rows) -> Iterator[Row | Finding]:
        """Report the header of a table once if it fits no format, and leave out the table's rows."""
        refused = None
        for row in rows:
            if isinstance(row, Header):
                found = check_header(row, self._data, FORMATS.get(self.format or ""))
                refused = row.file if found else None
                yield from found
            elif row.file != refused:
                yield row

    def _read(self, row: Row) -> tuple[Record | None, list[Finding]]:
        limit = self._checks.max_row_bytes
        if sum(map(len, strings(row.value))) > limit:  # of a container without lines
            return None, [too_large(row.file, row.line, limit)]
        if lost := find_unusable(row.value):
            path, part = lost
            return None, [Finding("bad_json", row.file, row.line, path, part.what, part.todo)]
        if not isinstance(row.value, dict):
            what = f"{type(row.value).__name__} instead of an object"
            return None, [
                Finding("data_type", row.file, row.line, "", what, 'write {"messages": [...]}')
            ]
        value: dict[str, Any] = rename(row.value, self._data.column_mapping)
        self.format = self.format or detect(value)
        form = FORMATS[self.format] if self.format else None
        if form is None or (self.format != "chat" and not form.fits(value)):
            return None, [unknown_format(row.file, row.line, list(value), form)]
        sample = form.convert(value)
        meta = self._meta(sample, row.value)
        record, found = check_sample(row, sample, meta)
        found += self._more(row, sample) + find_secrets(row, self._columns(meta))
        found = [self._in_their_words(finding) for finding in found]
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
        for column in (self._data.label_column, self._data.group_column):
            text = as_text(row.value.get(column)) if column else None
            if column and text is not None and not isinstance(text, str):
                what = f"{shown(text)} instead of text"
                todo = "write it as text"
                found.append(Finding("missing_content", row.file, row.line, column, what, todo))
        return found

    def _meta(self, sample: RawExample, value: dict[str, Any]) -> dict[str, Any]:
        data = self._data
        label = as_text(value.get(data.label_column)) if data.label_column else sample.label
        meta: dict[str, Any] = {"label": label} if isinstance(label, str) else {}
        group = as_text(value.get(data.group_column)) if data.group_column else None
        if isinstance(group, str) and group.strip():  # a blank cell names no group
            meta["group"] = group
        if data.group_starts:
            meta["group"] = str(bisect_right(data.group_starts, self.rows) + 1)
        if data.split.column:
            meta["split"] = _split_name(value.get(data.split.column))
        kept = {
            column: _plain(value[column]) for column in data.metadata_columns if column in value
        }
        return meta | ({"columns": kept} if kept else {})

    def _columns(self, meta: dict[str, Any]) -> list[tuple[str, Any]]:
        """Return the columns that become metadata, each with its value."""
        label = (self._data.label_column or "label", meta.get("label"))
        group = (self._data.group_column or "group", meta.get("group"))
        return [label, group, *meta.get("columns", {}).items()]

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
    """Return a value that JSON can hold. Lists and objects become JSON text.

    Dates, very large integers and infinities become text, and NaN becomes null.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, dict | list):
        return json.dumps(value, default=str, ensure_ascii=False)
    small = isinstance(value, int) and abs(value) < 2**53
    return value if value is None or small or isinstance(value, str | float | bool) else str(value)
