"""What is wrong with the data: collected in one pass, shown to a person, written for a machine."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from stages.core.config.data import ChecksConfig
from stages.core.errors import UserError

SEVERITY = {"fail": "error", "drop": "dropped", "truncate": "truncated", "warn": "warning"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one row."""

    code: str
    """A field of `ChecksConfig`."""
    file: str
    line: int
    """From 1; in a Parquet or JSON file the row; 0 for the data as a whole."""
    field: str
    found: str
    todo: str
    record: str | None = None
    """Id of the record; null where the row could not become one."""


class Findings:
    """All findings of a run, written to a file as they come: memory holds the first of each kind."""

    def __init__(self, checks: ChecksConfig, path: Path) -> None:
        self._checks = checks
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self._first: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        self._severities: Counter[tuple[str, str]] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """Findings of each code."""
        totals: Counter[str] = Counter()
        for (_, code), count in self._severities.items():
            totals[code] += count
        return dict(totals)

    def add(self, findings: Iterable[Finding], action: str | None = None) -> bool:
        """Take what was found in one row.

        Args:
            findings: about the row.
            action: `fail`, `drop` or `warn` in place of the configured one.

        Returns:
            Whether the row is passed on.
        """
        passed = True
        for finding in findings:
            done = action or getattr(self._checks, finding.code)
            severity = SEVERITY[done]
            key = (done, finding.code)
            self._severities[key] += 1
            if len(self._first[key]) < self._checks.shown:
                self._first[key].append(finding)
            line = {"severity": severity, **asdict(finding)}
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            passed = passed and done in {"warn", "truncate"}
        return passed

    def close(self) -> None:
        """Write what is still in memory."""
        self._file.close()

    @property
    def failed(self) -> bool:
        """Whether a finding forbids to go on."""
        return any(action == "fail" for action, _ in self._severities)

    def table(self) -> str:
        """The count of each kind and its first rows, the severest first."""
        lines = []
        for action, code in sorted(self._first, key=lambda key: list(SEVERITY).index(key[0])):
            found = self._first[action, code]
            count = self._severities[action, code]
            lines.append(f"{SEVERITY[action]} {code}: {count:,}")
            for finding in found:
                where = f"{finding.file}:{finding.line}" if finding.line else finding.file
                field = f", field `{finding.field}`" if finding.field else ""
                lines.append(f"  {where}{field}: {finding.found}; {finding.todo}")
            if count > len(found):
                lines.append(f"  … and {count - len(found):,} more")
        return "\n".join(lines) or "no findings"

    def error(self, path: Path) -> UserError:
        """What to raise where they forbid to go on; `path` is where the whole list was left."""
        return UserError(
            f"the data has mistakes; nothing was written but the whole list of them, {path}.\n{self.table()}\n"
            f"Mend them and run again. To leave such rows out: -S checks=lenient, or one kind: -S checks.<code>=drop"
        )
