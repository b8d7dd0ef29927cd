"""From rows to sound, unique records with their split, one at a time: memory holds a few hashes for each row."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from stages.core.config.schema import Config
from stages.core.data.records import SPLITS, Record
from stages.prepare.checks import SOFT, check_sample
from stages.prepare.containers import Row
from stages.prepare.duplicates import Seen
from stages.prepare.findings import Finding, Findings
from stages.prepare.formats import FORMATS, Format, detect, rename
from stages.prepare.messages import shown
from stages.prepare.samples import Sample
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
    """A record, its split, and where it stood."""

    record: Record
    split: str
    file: str
    line: int


class Reader:
    """Reads a source once; its counts are right when the records are used up."""

    def __init__(self, config: Config, findings: Findings) -> None:
        self._data = config.data
        self._checks = config.checks
        self._kinds = set(config.train.kinds)
        self._findings = findings
        self.source = Source(config.data)
        self._splitter = Splitter(config.data.split, config.seed, self.source.given_splits())
        self._seen = Seen()
        self.format: str | None = None if config.data.format == "auto" else config.data.format
        self.rows = self.records = 0
        self.labels: Counter[str] = Counter()

    def read(self) -> Iterator[Placed]:
        """The records that are passed on, with a progress bar where it takes longer than a moment."""
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
            what = f"{type(row.value).__name__} in place of an object"
            return None, [
                Finding("data_type", row.file, row.line, "", what, 'write {"messages": [...]}')
            ]
        value: dict[str, Any] = rename(row.value, self._data.columns)
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

    def _more(self, row: Row, sample: Sample) -> list[Finding]:
        """What the rest of the configuration expects of a row."""
        found = []
        if sample.kind not in self._kinds:
            what = f"a record of kind {sample.kind}"
            todo = f"training learns from {', '.join(sorted(self._kinds))}"
            found.append(
                Finding(
                    "wrong_kind",
                    row.file,
                    row.line,
                    "",
                    what,
                    f"{todo}; choose another train option",
                )
            )
        column = self._data.split.column
        if column and _split_name(row.value.get(column)) not in SPLITS:
            what = shown(row.value.get(column))
            todo = f"use one of {', '.join(NAMES)}"
            found.append(Finding("unknown_split", row.file, row.line, column, what, todo))
        return found

    def _meta(self, sample: Sample, value: dict[str, Any]) -> dict[str, Any]:
        data = self._data
        label = value.get(data.label) if data.label else sample.label
        meta: dict[str, Any] = {} if label is None else {"label": str(label)}
        if data.group and value.get(data.group) is not None:
            meta["group"] = str(value[data.group])
        if data.group_starts:
            meta["group"] = str(bisect_right(data.group_starts, self.rows) + 1)
        if data.split.column:
            meta["split"] = _split_name(value.get(data.split.column))
        kept = {column: _plain(value[column]) for column in data.keep if column in value}
        return meta | ({"columns": kept} if kept else {})

    def _in_their_words(self, finding: Finding) -> Finding:
        """The field under the name that it has in the file."""
        root = finding.field.split(".")[0].split("[")[0]
        theirs = self._data.columns.get(root)
        return replace(finding, field=theirs + finding.field[len(root) :]) if theirs else finding

    def _about_all(self) -> list[Finding]:
        name = self._data.name
        found = []
        if self.records < self._checks.min_rows:
            what = f"{self.records} sound rows"
            todo = f"give at least {self._checks.min_rows} (checks.min_rows)"
            found.append(Finding("too_few_rows", name, 0, "", what, todo))
        # Where nearly every row has its own label, the label is a text and not a class.
        once = [label for label, count in self.labels.items() if count == 1]
        if len(once) * 2 < len(self.labels):
            todo = "give more rows of it, or join it to another"
            field = self._data.label or self._data.columns.get("label", "label")
            found += [
                Finding("label_seen_once", name, 0, field, f"{shown(label)} in one row", todo)
                for label in once
            ]
        return found


def _split_name(value: Any) -> str:
    return NAMES.get(str(value).strip().lower(), "")


def _plain(value: Any) -> Any:
    """A value that JSON holds; a list, a date or a very large number as text."""
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
        f"perhaps -S '+data.columns={{{mapping}}}'"
        if mapping
        else f"expected {expected}; name yours: data.columns"
    )
    return Finding(
        "unknown_format",
        row.file,
        row.line,
        "",
        f"columns {', '.join(sorted(map(str, value)))}",
        todo,
    )
