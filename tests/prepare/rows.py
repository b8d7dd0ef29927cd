"""Helpers that the tests of `prepare` share."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.prepare.findings import Finding, Findings
from stages.prepare.reading import Reader

CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
QUESTION, ANSWER = CHAT["messages"]


def write(path, *lines):
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    )
    return path


def read(config, path, *overrides):
    """Read a file and return its records, the findings about it and the reader."""
    checked = config("checks.min_rows=1", *overrides)
    # The path is not an override, because composing a configuration takes a tenth of a second.
    source = checked.data.source.model_copy(update={"path": str(path)})
    checked = checked.model_copy(
        update={"data": checked.data.model_copy(update={"source": source})}
    )
    with TemporaryDirectory() as folder:
        found = Path(folder) / "findings.jsonl"
        findings = Findings(checked.checks, found)
        reader = Reader(checked, findings)
        records = [placed.record for placed in reader.read()]
        findings.close()
        return records, read_findings(found), reader


def read_findings(path):
    """Read the findings from a file, without their severity."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [Finding(**{key: value for key, value in f.items() if key != "severity"}) for f in found]
