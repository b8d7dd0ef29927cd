"""From rows to sound, unique records, one at a time: memory holds a hash for each row and no more."""

from collections.abc import Iterator
from typing import Any

from stages.core.config import Action, ChecksConfig, DataConfig
from stages.core.records import Record
from stages.prepare.checks import check_row, to_record
from stages.prepare.findings import Finding, Findings
from stages.prepare.formats import COLUMNS, detect, rename, to_messages
from stages.prepare.source import Row, read_rows

# Codes that may be a warning, because a record is possible all the same.
SOFT = {name for name, field in ChecksConfig.model_fields.items() if field.annotation == Action}


class Reader:
    """Reads a source once; its counts are right when the records are used up."""

    def __init__(self, data: DataConfig, checks: ChecksConfig) -> None:
        self._data = data
        self.findings = Findings(checks)
        self._min_rows = checks.min_rows
        self.format: str | None = None if data.format == "auto" else data.format
        self.rows = self.records = 0

    def read(self) -> Iterator[Record]:
        """The records that are passed on, with a progress bar where it takes longer than a moment."""
        from tqdm import tqdm

        seen: set[str] = set()
        for row in tqdm(read_rows(self._data.source), desc="rows", unit="row", delay=2, mininterval=1):
            self.rows += 1
            record, found = (None, [row]) if isinstance(row, Finding) else self._read(row)
            if record and record.id in seen and isinstance(row, Row):
                found = [*found, Finding("duplicate", row.file, row.line, "", "equal to an earlier row", "keep one")]
            if self.findings.add(found) and record:
                seen.add(record.id)
                self.records += 1
                yield record
        if self.records < self._min_rows:
            name, what = self._data.name, f"{self.records} sound rows"
            todo = f"give at least {self._min_rows} (checks.min_rows)"
            self.findings.add([Finding("too_few_rows", name, 0, "", what, todo)])

    def _read(self, row: Row) -> tuple[Record | None, list[Finding]]:
        if not isinstance(row.value, dict):
            what = f"{type(row.value).__name__} in place of an object"
            return None, [Finding("data_type", row.file, row.line, "", what, 'write {"messages": [...]}')]
        value: dict[str, Any] = rename(row.value, self._data.columns)
        self.format = self.format or detect(value)
        wanted = COLUMNS[self.format] if self.format else ()
        if not wanted or (self.format != "chat" and not set(wanted) <= set(value)):
            return None, [_unknown_format(row, value, wanted)]
        messages = to_messages(value, str(self.format))
        found = check_row(row, messages)
        hopeless = {finding.code for finding in found} - SOFT
        return None if hopeless else to_record(messages), found


def _unknown_format(row: Row, value: dict[str, Any], wanted: tuple[str, ...]) -> Finding:
    expected = " and ".join(wanted) or "; or ".join(", ".join(columns) for columns in COLUMNS.values())
    todo = f"expected {expected}; name yours with data.columns"
    return Finding("unknown_format", row.file, row.line, "", f"columns {', '.join(sorted(map(str, value)))}", todo)
