"""Collect what is wrong with the data, and show it to people and to programs."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import orjson

from stages.core.config.data import ChecksConfig
from stages.core.errors import UserError, one_line
from stages.core.secret_formats import mask_secrets

LISTED = 1000  # findings that differ in nothing but the row, for each that the file lists
LONGEST = 1_000  # characters of what was found, such as the names of all columns
SEVERITY = {"fail": "error", "drop": "dropped", "truncate": "truncated", "warn": "warning"}
DROPPED_BY = {"leak": "checks.max_leak_fraction=1"}
"""The settings that drop rows of which the check alone would not drop all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem with one row, or with the data as a whole."""

    code: str
    """A field of `ChecksConfig`."""
    file: str
    line: int
    """The line, counted from 1, or the row of a Parquet or JSON file. 0 means the whole data."""
    field: str
    found: str
    todo: str
    record: str | None = None
    """The id of the record. It is null if the row has no valid record."""


class Findings:
    """Writes the findings of a run to a file as they come, and keeps the first of each kind.

    A mistake that every row repeats would make a file that is larger than the data. Only the first
    1,000 findings of the same code and field that found the same are written, and the last lines of
    the file count the others.
    """

    def __init__(self, checks: ChecksConfig, path: Path) -> None:
        self._checks = checks
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self._first: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        self._severities: Counter[tuple[str, str]] = Counter()
        self._alike: Counter[int] = Counter()
        self._left_out: Counter[tuple[str, str]] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """The number of findings of each code."""
        totals: Counter[str] = Counter()
        for (_, code), count in self._severities.items():
            totals[code] += count
        return dict(totals)

    def add(self, findings: Iterable[Finding], action: str | None = None) -> bool:
        """Record the findings about one row, without the secrets that they repeat.

        Args:
            findings: The findings about the row.
            action: The action (`fail`, `drop` or `warn`) that overrides the configured one.

        Returns:
            Whether the row is kept.
        """
        passed = True
        for complete in findings:
            finding = replace(complete, found=_shorten(mask_secrets(complete.found)))
            done = action or getattr(self._checks, finding.code)
            severity = SEVERITY[done]
            key = (done, finding.code)
            self._severities[key] += 1
            if len(self._first[key]) < self._checks.shown:
                self._first[key].append(finding)
            alike = hash((severity, finding.code, finding.field, finding.found))
            self._alike[alike] += 1
            if self._alike[alike] <= LISTED:
                self._write(severity, finding)
            else:
                self._left_out[severity, finding.code] += 1
            passed = passed and done in {"warn", "truncate"}
        return passed

    def close(self) -> None:
        """Write how many findings were left out, and close the file."""
        for (severity, code), count in self._left_out.items():
            what = f"{count:,} more findings that differ from a listed one in nothing but the row"
            self._write(severity, Finding(code, "", 0, "", what, "see the findings above"))
        self._left_out.clear()
        self._file.close()

    def _write(self, severity: str, finding: Finding) -> None:
        line = {"severity": severity, **asdict(finding)}
        self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    @property
    def failed(self) -> bool:
        """Whether any finding stops the stage."""
        return any(action == "fail" for action, _ in self._severities)

    def table(self) -> str:
        """Format the count and the first rows of each kind of finding, the most severe first."""
        lines = []
        for action, code in sorted(self._first, key=lambda key: list(SEVERITY).index(key[0])):
            found = self._first[action, code]
            count = self._severities[action, code]
            lines.append(f"{SEVERITY[action]} {code}: {count:,}")
            for finding in found:
                where = f"{finding.file}:{finding.line}" if finding.line else finding.file
                field = f", field `{finding.field}`" if finding.field else ""
                lines.append(one_line(f"  {where}{field}: {finding.found}; {finding.todo}"))
            if count > len(found):
                lines.append(f"  … and {count - len(found):,} more")
        return "\n".join(lines) or "no findings"

    def error(self, path: Path) -> UserError:
        """Build the error that stops the stage.

        Args:
            path: The file with the full list of findings.
        """
        return UserError(
            f"the data has errors. Nothing was written except the full list, {path}.\n"
            f"{self.table()}\n"
            f"Fix the rows and run again.{self._suggest()}"
        )

    def _suggest(self) -> str:
        """Say which settings drop the rows instead, if any does."""
        codes = sorted({code for action, code in self._severities if action == "fail"})
        settings = [
            DROPPED_BY.get(code, f"checks.{code}=drop")
            for code in codes
            if "drop" in get_args(ChecksConfig.model_fields[code].annotation)
        ]
        if not settings:
            return ""
        one = " ".join(f"-S {setting}" for setting in settings)
        return f" To drop such rows, use -S checks=lenient, or only {one}."


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
