import gzip
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.prepare.formats import FORMATS
from tests.conftest import ROOT
from tests.prepare.rows import ANSWER, CHAT, QUESTION, read, write

WORSE = {**ANSWER, "content": "b"}
PARTS = {"type": "text", "text": "q"}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
FORMS = {
    "chat": CHAT,
    "openai-preference": {
        "input": {"messages": [QUESTION]}, "preferred_output": [ANSWER], "non_preferred_output": [WORSE],
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "evals": {"input": [QUESTION], "ideal": "a"},
    "preference": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "unpaired-preference": {"prompt": "q", "completion": "a", "label": True},
    "prompt-completion": {"prompt": "q", "completion": "a"},
    "instruction": {"instruction": "q", "input": "", "output": "a"},
    "labelled": {"text": "q", "label": "a"},
    "prompt": {"prompt": "q"},
    "text": {"text": "a"},
}  # fmt: skip
VARIANTS = [
    *FORMS.items(),
    ("evals", {"input": "q", "ideal": ["a", "b"]}),
    ("prompt-completion", {"prompt": [QUESTION], "completion": [ANSWER]}),
    ("preference", {"prompt": [QUESTION], "chosen": [ANSWER], "rejected": [WORSE]}),
    ("preference", {"chosen": [QUESTION, ANSWER], "rejected": [QUESTION, WORSE]}),
    ("unpaired-preference", {"prompt": [QUESTION], "completion": [ANSWER], "label": True}),
    ("prompt", {"prompt": [QUESTION]}),
    ("chat", {"messages": [{"role": "user", "content": [PARTS]}, ANSWER]}),
    ("chat", {"messages": json.dumps(CHAT["messages"])}),
    (
        "chat",
        {
            "messages": [
                {**message, "name": None, "tool_calls": None} for message in CHAT["messages"]
            ]
        },
    ),
]
RECORD_TYPES = "train.record_types=[chat, preference, unpaired, prompt, text]"
SCHEMA = Draft202012Validator(
    json.loads((ROOT / "stages/core/data/record.schema.json").read_text())
)
EXPECTED = {
    "chat": Record.of(CHAT["messages"]),
    "preference": Record.of(CHAT["messages"], kind="preference", rejected=WORSE),
    "unpaired": Record.of(CHAT["messages"], kind="unpaired", desirable=True),
    "prompt": Record.of([QUESTION], kind="prompt"),
    "text": Record.of([ANSWER], kind="text"),
}


def in_schema(record):
    SCHEMA.validate(json.loads(record.dump()))
    return True


@pytest.mark.parametrize(("name", "row"), VARIANTS)
def test_every_format_is_detected_and_becomes_the_same_record(config, tmp_path, name, row):
    records, findings, reader = read(config, write(tmp_path / "rows.jsonl", row), RECORD_TYPES)
    assert findings == [] and reader.format == name
    [record] = records
    assert replace(record, meta={}) == EXPECTED[record.kind] and in_schema(record)


def test_an_implicit_prompt_is_what_two_texts_share(config, tmp_path):
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    [record], findings, _ = read(config, write(tmp_path / "rows.jsonl", row), RECORD_TYPES)
    assert findings == [] and in_schema(record)
    assert (record.prompt[0]["content"], record.target, record.rejected["content"]) == (
        "The sky is",
        " blue.",
        " green.",
    )


def test_tools_are_kept_in_one_form(config, tmp_path):
    as_text = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    result = {"role": "tool", "tool_call_id": "1", "content": "2"}
    messages = [
        QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [as_text]},
        result,
        ANSWER,
    ]
    old = [
        QUESTION,
        {"role": "assistant", "content": None, "function_call": as_text["function"]},
        ANSWER,
    ]
    old.insert(2, {"role": "function", "name": "add", "content": "2"})
    sharegpt = [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": json.dumps(CALL["function"])},
    ]
    sharegpt += [{"from": "observation", "value": "2"}, {"from": "gpt", "value": "a"}]
    rows = [
        {"messages": messages, "tools": [TOOL], "parallel_tool_calls": False},
        {"messages": old, "functions": [TOOL["function"]]},
        {"messages": messages, "tools": json.dumps([TOOL])},
    ]
    keep = ("checks.duplicate=warn", "checks.normalised_duplicate=warn")
    records, findings, _ = read(config, write(tmp_path / "rows.jsonl", *rows), *keep)
    assert [finding.code for finding in findings] == ["normalised_duplicate", "duplicate"]
    assert len(records) == 3 and all(map(in_schema, records))
    assert all(
        record.tools == [TOOL] and record.messages[1]["tool_calls"] == [CALL] for record in records
    )
    assert [message["role"] for message in records[1].messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    [record], *_ = read(
        config,
        write(tmp_path / "s.jsonl", {"conversations": sharegpt, "tools": json.dumps([TOOL])}),
    )
    assert (
        record.messages[1]["tool_calls"] == [CALL] and record.tools == [TOOL] and in_schema(record)
    )


def test_weights_are_kept(config, tmp_path):
    row = {"messages": [QUESTION, {**ANSWER, "weight": 0}, QUESTION, {**ANSWER, "weight": 1}]}
    [record], *_ = read(config, write(tmp_path / "rows.jsonl", row))
    assert [message.get("weight") for message in record.messages] == [
        None,
        0,
        None,
        1,
    ] and in_schema(record)


def test_the_formats_in_the_schema_are_those_that_there_are(config):
    assert {*FORMS, "tokens"} == set(FORMATS)  # which has a target of its own: test_tokens.py
    for name in FORMATS:
        assert config(f"data.format={name}").data.format == name


def test_a_label_a_group_and_kept_columns_stay_with_the_record(config, tmp_path):
    row = {"text": "q", "label": 3, "who": "me", "when": "now"}
    records, *_ = read(
        config,
        write(tmp_path / "rows.jsonl", row),
        "data.group_column=who",
        "data.metadata_columns=[when]",
    )
    assert (
        records[0].meta == {"label": "3", "group": "me", "columns": {"when": "now"}}
        and records[0].target == "3"
    )
    assert records[0].id == Record.of(
        [QUESTION, {"role": "assistant", "content": "3"}]
    ).id and in_schema(records[0])


def test_an_instruction_takes_its_input_and_its_system(config, tmp_path):
    row = {"instruction": "Add.", "input": "1 2", "output": "3", "system": "You count."}
    records, *_ = read(config, write(tmp_path / "rows.jsonl", row))
    assert [message["content"] for message in records[0].messages] == [
        "You count.",
        "Add.\n\n1 2",
        "3",
    ]


def test_columns_of_other_names_are_mapped(config, tmp_path):
    path = write(tmp_path / "rows.jsonl", {"frage": "q", "antwort": "a"})
    assert read(config, path)[1][0].code == "unknown_format"
    records, findings, _ = read(
        config, path, "+data.column_mapping={prompt: frage, completion: antwort}"
    )
    assert (records, findings) == ([Record.of(CHAT["messages"])], [])


def test_a_developer_is_a_system(config, tmp_path):
    row = {"messages": [{"role": "developer", "content": "s"}, *CHAT["messages"]]}
    assert read(config, write(tmp_path / "rows.jsonl", row))[0][0].messages[0] == {
        "role": "system",
        "content": "s",
    }


ROWS = [{"text": f"q{n}, or\nnot", "label": "é"} for n in range(3)]


def csv_of(rows, delimiter):
    lines = [
        delimiter.join(rows[0]),
        *(delimiter.join(f'"{value}"' for value in row.values()) for row in rows),
    ]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_container_gives_the_same_rows(config, tmp_path, kind, packed, bom):
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "x")
        content = (tmp_path / "x").read_bytes()
        bom = b""
    else:
        texts = {
            "csv": csv_of(ROWS, ","),
            "tsv": csv_of(ROWS, "\t"),
            "json": json.dumps(ROWS).encode(),
        }
        content = texts.get(kind) or b"\n".join(json.dumps(row).encode() for row in ROWS)
    path = tmp_path / f"rows.{kind}{packed}"
    pack = {
        "": bytes,
        ".gz": gzip.compress,
        ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    }[packed]
    path.write_bytes(pack(bom + content))
    records, findings, _ = read(config, path)
    assert findings == []
    assert [(r.prompt[0]["content"], r.target) for r in records] == [
        (row["text"], "é") for row in ROWS
    ]


def test_a_glob_is_read_in_the_order_of_names(config, tmp_path):
    for name in ("b", "a"):
        write(tmp_path / f"{name}.jsonl", {"prompt": name, "completion": "x"}, {"prompt": 1})
    records, findings, _ = read(config, tmp_path / "*.jsonl")
    assert [record.prompt[0]["content"] for record in records] == ["a", "b"]
    assert [(finding.file, finding.line) for finding in findings] == [
        ("a.jsonl", 2),
        ("b.jsonl", 2),
    ]


def test_a_container_that_is_not_known_is_named(config, tmp_path):
    (tmp_path / "rows.xlsx").write_bytes(b"x")
    with pytest.raises(UserError, match=r"expected \.jsonl, \.json, \.csv"):
        read(config, tmp_path / "rows.xlsx")
