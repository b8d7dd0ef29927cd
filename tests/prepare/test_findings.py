import json

from stages.prepare import findings as module
from stages.prepare.findings import Finding, Findings


def test_findings_that_differ_in_nothing_but_the_row_are_counted_after_a_limit(config, tmp_path):
    path = tmp_path / "findings.jsonl"
    findings = Findings(config().checks, path)
    rows = 3 * module.LISTED
    for line in range(1, rows + 1):
        findings.add(
            [Finding("unknown_format", "rows.jsonl", line, "", "columns a, b", "map them")]
        )
    findings.add([Finding("turn_order", "rows.jsonl", 1, "messages", "user user", "alternate")])
    findings.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == module.LISTED + 2 and findings.counts["unknown_format"] == rows
    assert [line["line"] for line in lines[:3]] == [1, 2, 3]
    assert lines[-2]["code"] == "turn_order"
    assert lines[-1]["found"].startswith("2,000 more findings") and lines[-1]["severity"] == "error"
    assert f"error unknown_format: {rows:,}" in findings.table()


def test_findings_that_differ_are_all_listed(config, tmp_path):
    path = tmp_path / "findings.jsonl"
    findings = Findings(config().checks, path)
    rows = module.LISTED + 1
    findings.add(
        Finding("secret", "x", n, f"messages[{n}].content", "a key", "") for n in range(rows)
    )
    findings.close()
    assert len(path.read_text().splitlines()) == rows
