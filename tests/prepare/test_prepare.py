import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import UserError
from stages.core.records import Record, read_records
from stages.prepare.__main__ import main
from stages.prepare.checks import check_row, to_record
from stages.prepare.formats import COLUMNS, detect, to_messages
from stages.prepare.reading import Reader
from stages.prepare.source import Row
from stages.prepare.split import choose_split, write_splits
from tests.conftest import TINY, chat, compose_config

CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
QUESTION, ANSWER = CHAT["messages"]


def write(path, *lines):
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def read(config, path, *overrides):
    """The records of a file and the findings about it."""
    checked = config(f"data.source.path={path}", "checks.min_rows=1", *overrides)
    reader = Reader(checked.data, checked.checks)
    return list(reader.read()), reader.findings._all, reader


FORMS = {
    "chat": CHAT,
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "evals": {"input": [QUESTION], "ideal": "a"},
    "prompt-completion": {"prompt": "q", "completion": "a"},
    "instruction": {"instruction": "q", "input": "", "output": "a"},
    "labelled": {"text": "q", "label": "a"},
}
VARIANTS = [
    *FORMS.items(),
    ("evals", {"input": "q", "ideal": ["a", "b"]}),
    ("prompt-completion", {"prompt": [QUESTION], "completion": [ANSWER]}),
    ("chat", {"messages": [{**QUESTION, "name": "x"}, {**ANSWER, "weight": 1}]}),
]


@pytest.mark.parametrize(("name", "row"), VARIANTS)
def test_every_format_is_detected_and_becomes_the_same_record(config, tmp_path, name, row):
    records, findings, reader = read(config, write(tmp_path / "rows.jsonl", row))
    assert (records, findings, reader.format) == ([Record.of(CHAT["messages"])], [], name)


def test_the_formats_in_the_schema_are_those_that_there_are(config):
    assert set(FORMS) == set(COLUMNS)
    for name in COLUMNS:
        assert config(f"data.format={name}").data.format == name


def test_an_instruction_takes_its_input_and_its_system(config, tmp_path):
    row = {"instruction": "Add.", "input": "1 2", "output": "3", "system": "You count."}
    records, *_ = read(config, write(tmp_path / "rows.jsonl", row))
    assert [message["content"] for message in records[0].messages] == ["You count.", "Add.\n\n1 2", "3"]


def test_columns_of_other_names_are_mapped(config, tmp_path):
    path = write(tmp_path / "rows.jsonl", {"frage": "q", "antwort": "a"})
    assert read(config, path)[1][0].code == "unknown_format"
    records, findings, _ = read(config, path, "+data.columns={prompt: frage, completion: antwort}")
    assert (records, findings) == ([Record.of(CHAT["messages"])], [])


def test_a_developer_is_a_system(config, tmp_path):
    row = {"messages": [{"role": "developer", "content": "s"}, *CHAT["messages"]]}
    assert read(config, write(tmp_path / "rows.jsonl", row))[0][0].messages[0] == {"role": "system", "content": "s"}


ROWS = [{"text": f"q{n}, or\nnot", "label": "é"} for n in range(3)]


def csv_of(rows, delimiter):
    lines = [delimiter.join(rows[0]), *(delimiter.join(f'"{value}"' for value in row.values()) for row in rows)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_container_gives_the_same_rows(config, tmp_path, kind, packed, bom):
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "x")
        content, bom = (tmp_path / "x").read_bytes(), b""
    else:
        texts = {"csv": csv_of(ROWS, ","), "tsv": csv_of(ROWS, "\t"), "json": json.dumps(ROWS).encode()}
        content = texts.get(kind) or b"\n".join(json.dumps(row).encode() for row in ROWS)
    path = tmp_path / f"rows.{kind}{packed}"
    path.write_bytes(gzip.compress(bom + content) if packed else bom + content)
    records, findings, _ = read(config, path)
    assert findings == []
    assert [(r.prompt[0]["content"], r.target) for r in records] == [(row["text"], "é") for row in ROWS]


def test_a_glob_is_read_in_the_order_of_names(config, tmp_path):
    for name in ("b", "a"):
        write(tmp_path / f"{name}.jsonl", {"prompt": name, "completion": "x"}, {"prompt": 1})
    records, findings, _ = read(config, f"'{tmp_path}/*.jsonl'")
    assert [record.prompt[0]["content"] for record in records] == ["a", "b"]
    assert [(finding.file, finding.line) for finding in findings] == [("a.jsonl", 2), ("b.jsonl", 2)]


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


def test_the_split_is_a_share_and_stays_when_rows_are_added_or_moved(config, tmp_path):
    split = config().data.split
    old = [chat(f"question {n}", "answer") for n in range(2000)]
    new = [chat(f"new {n}", "answer") for n in range(500)]
    found = []
    for name, records in (("old", old), ("more", new + old[::-1])):
        (tmp_path / name).mkdir()
        write_splits(records, tmp_path / name, split, seed=1)
        found.append({s: {json.loads(line)["id"] for line in (tmp_path / name / f"{s}.jsonl").open()} for s in
                      ("train", "validation", "test")})  # fmt: skip
    assert all(found[0][name] <= found[1][name] for name in found[0])
    assert 0.22 < len(found[0]["test"]) / 2000 < 0.28


def test_two_answers_to_one_question_stay_together(config):
    split = config().data.split
    for n in range(300):
        assert len({choose_split(chat(f"question {n}", answer), split, seed=3) for answer in ("yes", "no")}) == 1


def many(count):
    return [{"prompt": f"q{n}", "completion": "a"} for n in range(count)]


def test_the_stage_writes_three_splits_and_its_numbers(workspace):
    write(workspace / "rows.jsonl", *many(60), many(1)[0])
    main(compose_config(*TINY))
    numbers = json.loads((workspace / "metrics/prepare.json").read_text())
    assert numbers["rows"] == 61 and numbers["findings"] == {"duplicate": 1}
    assert numbers["format"] == "prompt-completion"
    assert sum(len(read_records(split)) for split in ("train", "validation", "test")) == 60
    assert len((workspace / "data/prepared/findings.jsonl").read_text().splitlines()) == 1
    before = (workspace / "data/prepared/test.jsonl").read_bytes()
    main(compose_config(*TINY))
    assert (workspace / "data/prepared/test.jsonl").read_bytes() == before


def test_mistakes_stop_it_with_counts_and_first_rows_and_leave_the_whole_list(workspace):
    write(workspace / "rows.jsonl", *many(60), *[{"prompt": n} for n in range(12)], b"{")
    with pytest.raises(SystemExit) as stop:
        main(compose_config(*TINY))
    said = str(stop.value)
    assert "error unknown_format: 12" in said and "and 7 more" in said and "error bad_json: 1" in said
    assert "rows.jsonl:61: columns prompt; expected prompt and completion" in said
    assert len((workspace / "reports/findings.jsonl").read_text().splitlines()) == 13
    assert not (workspace / "data").exists() or not list((workspace / "data").iterdir())


def test_rows_with_mistakes_can_be_left_out_counted(workspace):
    write(workspace / "rows.jsonl", *many(60), {"prompt": 1}, b"{")
    main(compose_config(*TINY, "checks=lenient"))
    numbers = json.loads((workspace / "metrics/prepare.json").read_text())
    assert numbers["findings"] == {"unknown_format": 1, "bad_json": 1}
    assert numbers["train"] + numbers["validation"] + numbers["test"] == 60


def test_a_warning_passes_the_row_on_and_only_where_it_can_be_a_record(config, tmp_path):
    path = write(tmp_path / "rows.jsonl", message(mood="good"))
    records, findings, _ = read(config, path, "checks.message_unrecognized_key=warn")
    assert len(records) == len(findings) == 1
    with pytest.raises(UserError, match=r"checks\.missing_content: should be 'fail' or 'drop'"):
        config("checks.missing_content=warn")


def test_too_few_rows_stop_it_also_when_lenient(workspace):
    write(workspace / "rows.jsonl", *many(9))
    with pytest.raises(SystemExit, match=r"9 sound rows; give at least 10"):
        main(compose_config(*TINY, "checks=lenient"))


def test_an_empty_split_is_refused(workspace):
    write(workspace / "rows.jsonl", *many(10))
    with pytest.raises(SystemExit, match="leaves no rows for"):
        main(compose_config(*TINY, "data.split.validation=0.001"))


@pytest.mark.parametrize(
    ("content", "said"), [(None, "there is no such file"), (b"{", "error bad_json: 1"), (b"", "0 sound rows")]
)
def test_a_failed_run_is_one_message_and_keeps_the_earlier_output(workspace, content, said):
    write(workspace / "rows.jsonl", *many(60))
    main(compose_config(*TINY))
    before = (workspace / "data/prepared/train.jsonl").read_bytes()
    (workspace / "rows.jsonl").unlink() if content is None else (workspace / "rows.jsonl").write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        main(compose_config(*TINY))
    assert str(stop.value).startswith("\nprepare: ") and said in str(stop.value) and "rows" in str(stop.value)
    assert (workspace / "data/prepared/train.jsonl").read_bytes() == before


def test_a_container_that_is_not_known_is_named(config, tmp_path):
    (tmp_path / "rows.xlsx").write_bytes(b"x")
    with pytest.raises(UserError, match=r"expected \.jsonl, \.json, \.csv"):
        read(config, tmp_path / "rows.xlsx")


def test_a_full_disk_is_one_message_and_nothing_half_written(workspace, monkeypatch):
    write(workspace / "rows.jsonl", *many(60))
    monkeypatch.setattr(
        "stages.prepare.__main__.write_splits",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(SystemExit, match="no space left on the disk"):
        main(compose_config(*TINY))
    assert not list((workspace / "data").rglob("*.jsonl"))


def test_prepare_imports_no_torch():
    code = "import stages.prepare.__main__, stages.core.tracking, mlflow, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
