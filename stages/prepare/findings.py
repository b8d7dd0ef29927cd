"""What is wrong with the data: collected in one pass, shown to a person, written for a machine."""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.core.config import ChecksConfig
from stages.core.errors import UserError
from stages.core.files import write_jsonl

SEVERITY = {"fail": "error", "drop": "dropped", "warn": "warning"}


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


class Findings:
    """All findings of a run."""

    def __init__(self, checks: ChecksConfig) -> None:
        self._checks = checks
        self._all: list[Finding] = []
        self.counts: Counter[str] = Counter()

    def add(self, findings: list[Finding]) -> bool:
        """Take what was found in one row. Returns whether the row is passed on."""
        self._all += findings
        self.counts.update(finding.code for finding in findings)
        return all(self._action(finding) == "warn" for finding in findings)

    def write(self, path: Path) -> None:
        """One JSON object a finding, with its severity."""
        write_jsonl(path, ({"severity": SEVERITY[self._action(f)], **asdict(f)} for f in self._all))

    @property
    def failed(self) -> bool:
        """Whether a finding forbids to go on."""
        return any(getattr(self._checks, code) == "fail" for code in self.counts)

    def table(self) -> str:
        """The count of each kind and its first rows, the severest first."""
        by_code: dict[str, list[Finding]] = defaultdict(list)
        for finding in self._all:
            by_code[finding.code].append(finding)
        lines = []
        for code, found in sorted(by_code.items(), key=lambda item: list(SEVERITY).index(self._action(item[1][0]))):
            lines.append(f"{SEVERITY[self._action(found[0])]} {code}: {len(found)}")
            for finding in found[: self._checks.shown]:
                where = f"{finding.file}:{finding.line}" if finding.line else finding.file
                field = f", field `{finding.field}`" if finding.field else ""
                lines.append(f"  {where}{field}: {finding.found}; {finding.todo}")
            if len(found) > self._checks.shown:
                lines.append(f"  … and {len(found) - self._checks.shown} more")
        return "\n".join(lines)

    def error(self, path: Path) -> UserError:
        """What to raise where they forbid to go on; `path` is where the whole list was left."""
        return UserError(
            f"the data has mistakes; nothing was written but the whole list of them, {path}.\n{self.table()}\n"
            f"Mend them and run again. To leave such rows out: -S checks=lenient, or one kind: -S checks.<code>=drop"
        )

    def _action(self, finding: Finding) -> str:
        return getattr(self._checks, finding.code)
