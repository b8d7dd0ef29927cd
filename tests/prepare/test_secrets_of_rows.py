"""Test where the secrets of rows are found, and that nothing repeats them."""

import json

import pytest

from stages.core.data.records import Record
from stages.core.models.base_models import get_base_tokenizer
from stages.core.models.loading import get_tokenizer
from stages.core.secret_formats import HIDDEN
from stages.prepare.preview import Preview
from tests.core.test_secret_formats import EXAMPLES
from tests.prepare.rows import ANSWER, QUESTION, read, write


@pytest.mark.parametrize("secret", [EXAMPLES["GitHub p"], EXAMPLES["password in a URL"]])
def test_every_string_of_a_row_is_looked_at_and_no_finding_repeats_a_secret(
    config, tmp_path, secret
):
    define = {"type": "function", "function": {"name": "f", "description": f"use {secret}"}}
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": [f" {secret} "]}}}
    coded = {"function": {"name": "f", "arguments": json.dumps({"a": json.dumps([secret])})}}
    key = {"function": {"name": "f", "arguments": {secret: 1}}}
    calls = [{"role": "assistant", "content": "", "tool_calls": [c]} for c in (call, coded, key)]
    tools = [{"function": {"name": "f"}}]
    rows = [
        {"messages": [{"role": "user", "content": f"use {secret} now"}, ANSWER]},
        *({"messages": [QUESTION, made], "tools": tools} for made in calls),
        {"messages": [QUESTION, ANSWER], "tools": [define]},
        {"messages": [QUESTION, {**ANSWER, "reasoning_content": f"think {secret}"}]},
        {"messages": [{**QUESTION, "name": secret}, ANSWER]},
        {"messages": [QUESTION, ANSWER], "who": secret},
        {"messages": [QUESTION, ANSWER], "topic": secret},
        {"messages": [QUESTION, ANSWER], "note": [{"a": secret}]},
    ]
    changes = [
        "data.group_column=who", "data.label_column=topic", "data.metadata_columns=[note]",
        "data.format=chat",
    ]  # fmt: skip
    _, findings, _ = read(config, write(tmp_path / "rows.jsonl", *rows), *changes)
    assert [(f.line, f.field) for f in findings if f.code == "secret"] == [
        (1, "messages[0].content"), (2, "messages[1].tool_calls"), (3, "messages[1].tool_calls"),
        (4, "messages[1].tool_calls"), (5, "tools"), (6, "messages[1].reasoning_content"),
        (7, "messages[0].name"), (8, "who"), (9, "topic"), (10, "note"),
    ]  # fmt: skip
    assert not any(secret in str(finding) for finding in findings)


def test_a_rejected_answer_is_looked_at(config, tmp_path):
    row = {"prompt": "q", "chosen": "a", "rejected": EXAMPLES["GitLab"]}
    changed = "train.record_types=[preference]"
    _, findings, _ = read(config, write(tmp_path / "rows.jsonl", row), changed)
    assert [(f.code, f.field) for f in findings] == [
        ("secret", "rejected"), ("too_few_rows", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("length", [0, 20, 45])
def test_no_other_finding_repeats_a_secret_or_its_beginning(config, tmp_path, length):
    secret = EXAMPLES["GitHub fine-grained"]
    text = "x" * length + " " + secret
    call = {"type": "function", "function": {"name": text, "arguments": {}}}
    rows = [
        {text: 1, "column": 2},
        {"messages": [{"role": text, "content": "a"}, ANSWER]},
        {"messages": [{"role": "user", "content": [{"type": text}]}, ANSWER]},
        {"messages": [{**QUESTION, text: 1}, ANSWER]},
        {"messages": [QUESTION, {**ANSWER, "weight": text}]},
        {"messages": [QUESTION, {"role": "assistant", "content": "", "tool_calls": [call]}]},
        {"messages": [QUESTION, {"role": "assistant", "tool_calls": text}]},
        {"messages": text},
        {"messages": [QUESTION, ANSWER], "tools": text},
        {"messages": [QUESTION, ANSWER], "kept": text},
        *({"messages": [{**QUESTION, "content": str(i)}, ANSWER], "kind": i % 3} for i in range(9)),
        {"messages": [QUESTION, {**ANSWER, "content": "b"}], "kind": text},
    ]
    changes = [
        "data.format=chat", "checks.secret=warn", "data.split.column=kept",
        "data.label_column=kind",
    ]  # fmt: skip
    path = write(tmp_path / "rows.jsonl", *rows)
    found = read(config, path, *changes)[1] + read(config, path, changes[1], changes[3])[1]
    codes = {finding.code for finding in found}
    assert codes >= {
        "unrecognized_role", "unsupported_content", "message_unrecognized_key", "bad_weight",
        "undefined_tool", "bad_tools", "missing_messages_list", "unknown_split", "unknown_format",
        "label_seen_once",
    }  # fmt: skip
    assert not [finding for finding in found if secret[:10] in str(finding)]


def test_the_preview_hides_secrets(config):
    secret = EXAMPLES["GitHub p"]
    worse = {"role": "assistant", "content": secret}
    record = Record.of(
        [QUESTION, {**ANSWER, "content": f"use {secret}"}], kind="preference", rejected=worse
    )
    checked = config()
    preview = Preview(checked, get_tokenizer(get_base_tokenizer(checked.model)))
    preview.offer("train", record, record)
    assert HIDDEN in preview.text() and secret not in preview.text()
    assert {row.rejected for row in preview.rows} == {HIDDEN}
