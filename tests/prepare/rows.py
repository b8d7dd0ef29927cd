"""What the tests of `prepare` share."""

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
    """The records of a file and the findings about it."""
    checked = config("checks.min_rows=1", *overrides)
    # Not among the overrides: to compose a configuration for each file takes a tenth of a second.
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
    """The findings in a file, without their severity."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [Finding(**{key: value for key, value in f.items() if key != "severity"}) for f in found]
