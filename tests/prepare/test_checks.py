import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.errors import UserError
from tests.prepare.rows import ANSWER, CHAT, QUESTION, read, write


def message(**change):
    return {"messages": [QUESTION, {**ANSWER, **change}]}


def test_the_column_of_bad_json_is_given(config, tmp_path):
    _, findings, _ = read(config, write(tmp_path / "rows.jsonl", CHAT, b'{"messages": ['))
    assert "column 15: invalid JSON" in findings[0].found


def test_all_findings_of_a_row_are_reported(config, tmp_path):
    row = {"messages": [{"role": "bot", "content": None, "mood": 1}, {"role": "user"}]}
    codes = [finding.code for finding in read(config, write(tmp_path / "rows.jsonl", row))[1]]
    assert set(codes) >= {
        "message_unrecognized_key", "unrecognized_role", "message_missing_key", "missing_content",
        "example_missing_assistant_message",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", [QUESTION, ANSWER] * 2_000),
        ("tools", [{"type": "function", "function": {"name": f"f{i}"}} for i in range(3_000)]),
        ("tools", json.dumps([{"name": f"f{i}"} for i in range(7_000)])),
        ("other", dict.fromkeys(map(str, range(10_000)), 1)),
    ],
)
def test_a_row_of_very_many_parts_is_refused_before_it_is_checked(config, tmp_path, field, value):
    small = {**CHAT, field: value[:6] if isinstance(value, list) else []}
    path = write(tmp_path / "rows.jsonl", {**CHAT, field: value}, small)
    records, [finding], _ = read(config, path)
    assert len(records) == 1
    assert "more than 20,000 keys and values" in finding.found
    assert (finding.line, finding.field) == (1, field)


def test_a_warning_passes_the_row_on_and_only_where_it_can_be_a_record(config, tmp_path):
    path = write(tmp_path / "rows.jsonl", message(mood="good"))
    records, findings, _ = read(config, path, "checks.message_unrecognized_key=warn")
    assert len(records) == 1 and [f.code for f in findings] == ["message_unrecognized_key"]
    with pytest.raises(UserError, match=r"checks\.missing_content: should be 'fail' or 'drop'"):
        config("checks.missing_content=warn")


def test_a_finding_names_the_record_where_there_is_one(config, tmp_path):
    rows = [{"messages": [QUESTION, QUESTION, ANSWER]}, {"messages": [QUESTION]}]
    records, findings, _ = read(config, write(tmp_path / "rows.jsonl", *rows))
    named = {finding.code: finding.record for finding in findings}
    assert (
        named["turn_order"] == records[0].id and named["example_missing_assistant_message"] is None
    )


def test_a_finding_names_the_column_as_the_file_does(config, tmp_path):
    path = write(tmp_path / "rows.jsonl", {"frage": "", "antwort": "a"})
    _, findings, _ = read(config, path, "+data.column_mapping={prompt: frage, completion: antwort}")
    assert [(f.code, f.field) for f in findings][:1] == [("missing_content", "frage")]


def test_unknown_columns_with_usual_names_get_the_mapping_to_type(config, tmp_path):
    _, findings, _ = read(config, write(tmp_path / "rows.jsonl", {"question": "q", "answer": "a"}))
    assert "+data.column_mapping={prompt: question, completion: answer}" in findings[0].todo


def test_only_what_is_learned_from_stays_when_the_last_answers_weigh_nothing(config, tmp_path):
    first = {**ANSWER, "weight": 1}
    last = {**ANSWER, "weight": 0}
    rows = [{"messages": [QUESTION, first, QUESTION, last]}, {"messages": [QUESTION, last]}]
    records, findings, _ = read(config, write(tmp_path / "rows.jsonl", *rows))
    assert records[0].messages == [QUESTION, first]
    assert [(f.code, f.line) for f in findings] == [("no_trained_token", 2)]


@given(st.binary(max_size=200))
@settings(max_examples=60)
def test_no_bytes_break_a_reader(content):
    from io import BytesIO

    from stages.prepare.sources.readers import READERS

    for kind, reader in READERS.items():
        assert all(row.file == "x" for row in reader(BytesIO(content), "x")), kind
