import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import UserError
from stages.prepare.checks import check_row, to_record
from stages.prepare.formats import COLUMNS, detect, to_messages
from stages.prepare.source import Row
from tests.prepare.rows import ANSWER, CHAT, QUESTION, read, write


def message(**change):
    return {"messages": [QUESTION, {**ANSWER, **change}]}


BAD = [
    (b'{"messages": [', "bad_json", ""),
    (b'{"a": "\xff"}', "encoding", ""),
    (b'"text"', "data_type", ""),
    (b"[1]", "data_type", ""),
    ({"weather": "a"}, "missing_messages_list", "messages"),
    ({"messages": []}, "missing_messages_list", "messages"),
    ({"messages": "a"}, "missing_messages_list", "messages"),
    ({"messages": [QUESTION, "a", ANSWER]}, "message_missing_key", "messages[1]"),
    ({"messages": [{"role": "user"}, ANSWER]}, "message_missing_key", "messages[0]"),
    ({"messages": [{"content": "q"}, ANSWER]}, "message_missing_key", "messages[0]"),
    (message(mood="good"), "message_unrecognized_key", "messages[1]"),
    ({"messages": [{"role": "bot", "content": "a"}, ANSWER]}, "unrecognized_role", "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "a"}, ANSWER]}, "unrecognized_role", "messages[0].role"),
    ({"messages": [{"role": "user", "content": None}, ANSWER]}, "missing_content", "messages[0].content"),
    ({"messages": [{"role": "user", "content": 3}, ANSWER]}, "missing_content", "messages[0].content"),
    ({"messages": [{"role": "user", "content": ""}, ANSWER]}, "missing_content", "messages[0].content"),
    ({"messages": [QUESTION]}, "example_missing_assistant_message", "messages"),
    ({"messages": [*CHAT["messages"], QUESTION]}, "empty_target", "messages[2]"),
    (message(content=" "), "empty_target", "messages[1]"),
    ({"messages": [ANSWER]}, "no_question", "messages"),
    (message(weight=0), "no_trained_token", "messages[1].weight"),
    (message(weight=2), "bad_weight", "messages[1].weight"),
    (message(weight="1"), "bad_weight", "messages[1].weight"),
    (message(tool_calls=[{"id": 1}]), "unsupported_tools", "messages[1]"),
    ({"messages": [QUESTION, {"role": "tool", "content": "x"}, ANSWER]}, "unsupported_tools", "messages[1]"),
    ({"messages": [QUESTION, QUESTION, ANSWER]}, "turn_order", "messages"),
    ({"messages": [QUESTION, {"role": "system", "content": "s"}, ANSWER]}, "turn_order", "messages"),
    ({"messages": [{"role": "user", "content": "Is it yes?"}, message(content="yes")["messages"][1]]},
     "target_in_prompt", "messages"),
    (CHAT, "duplicate", ""),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code", "field"), BAD)
def test_a_bad_row_has_a_finding_with_its_place(config, tmp_path, line, code, field):
    _, findings, _ = read(config, write(tmp_path / "rows.jsonl", CHAT, b"", line))
    assert code in {finding.code for finding in findings}
    finding = next(finding for finding in findings if finding.code == code)
    assert (finding.line, finding.field) == (3, field)
    assert finding.file.endswith("rows.jsonl") and finding.found and finding.todo


def test_every_code_has_a_test(config):
    codes = set(type(config().checks).model_fields) - {"shown", "min_rows"}
    assert codes == {code for _, code, _ in BAD} | {"unknown_format", "too_few_rows"}


def test_the_columns_of_bad_json_are_given(config, tmp_path):
    _, findings, _ = read(config, write(tmp_path / "rows.jsonl", CHAT, b'{"messages": ['))
    assert "column 15: not JSON" in findings[0].found


@pytest.mark.parametrize("content", [b"text,label\na,b,c\nd,e\n", b'text,label\n"a,b\n'])
def test_a_broken_table_is_a_finding(config, tmp_path, content):
    (tmp_path / "rows.csv").write_bytes(content)
    assert "bad_json" in {finding.code for finding in read(config, tmp_path / "rows.csv")[1]}


def test_all_findings_of_a_row_are_reported(config, tmp_path):
    row = {"messages": [{"role": "bot", "content": None, "mood": 1}, {"role": "user"}]}
    codes = [finding.code for finding in read(config, write(tmp_path / "rows.jsonl", row))[1]]
    assert set(codes) >= {
        "message_unrecognized_key", "unrecognized_role", "message_missing_key", "missing_content",
        "example_missing_assistant_message",
    }  # fmt: skip


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
roles = st.sampled_from(["user", "assistant", "system", "tool", "bot"])
messages = st.fixed_dictionaries(
    {}, optional={"role": roles | json_values, "content": json_values, "weight": json_values}
)
rows = st.fixed_dictionaries(
    {},
    optional={name: json_values | st.lists(messages | json_values, max_size=4) for c in COLUMNS.values() for name in c},
)


@given(rows)
def test_no_row_breaks_the_checks_and_what_passes_is_sound(row):
    name = detect(row)
    if name is None:
        return
    made = to_messages(row, name)
    if check_row(Row("x", 1, row), made) == []:
        record = to_record(made)
        assert record.target and record.messages[-1]["role"] == "assistant"
        assert all(isinstance(message["content"], str) for message in record.messages)


def test_a_warning_passes_the_row_on_and_only_where_it_can_be_a_record(config, tmp_path):
    path = write(tmp_path / "rows.jsonl", message(mood="good"))
    records, findings, _ = read(config, path, "checks.message_unrecognized_key=warn")
    assert len(records) == len(findings) == 1
    with pytest.raises(UserError, match=r"checks\.missing_content: should be 'fail' or 'drop'"):
        config("checks.missing_content=warn")
