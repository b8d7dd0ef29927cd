import json
from types import SimpleNamespace

import fsspec
import pytest

from stages.core.config.schema import parse
from stages.core.errors import UserError
from stages.prepare.findings import Findings
from stages.prepare.reading import Reader
from stages.prepare.source import Source
from tests.conftest import compose_config
from tests.prepare.rows import CHAT, read, write

ROWS = [
    {"question": f"How many {n}?", "context": f"CREATE TABLE t{n} (a INT)", "answer": f"SELECT {n}"}
    for n in range(30)
]


def read_all(checked, folder):
    findings = Findings(checked.checks, folder / "found.jsonl")
    reader = Reader(checked, findings)
    return list(reader.read()), findings, reader


def test_the_text_to_sql_preset_reads_the_columns_of_its_data_set(tmp_path):
    (tmp_path / "hub").mkdir()
    write(tmp_path / "hub/train.jsonl", *ROWS)
    preset = [
        "experiment=text-to-sql",
        "model=tiny-random",
        f"data.source.id={tmp_path / 'hub'}",
        "data.limit=20",
    ]
    placed, findings, reader = read_all(parse(compose_config(*preset)), tmp_path)
    assert findings.counts == {} and len(placed) == 20 and reader.format == "instruction"
    assert placed[0].record.prompt == [
        {"role": "user", "content": "How many 0?\n\nCREATE TABLE t0 (a INT)"}
    ]
    assert placed[0].record.target == "SELECT 0" and placed[0].file.endswith(":train")


def with_source(checked, fields):
    data = checked.data.model_validate(checked.data.model_dump() | {"source": fields})
    return checked.model_copy(update={"data": data})


def hub(config, **source):
    fields = {
        "kind": "hub",
        "id": "owner/name",
        "revision": "main",
        "configuration": "all",
        "split": "train",
    }
    return with_source(config(), fields | source)


def test_a_hub_data_set_is_read_at_the_commit_that_its_revision_names_now(
    config, tmp_path, monkeypatch
):
    asked = []
    api = SimpleNamespace(
        dataset_info=lambda name, revision, timeout: SimpleNamespace(sha=f"commit of {revision}")
    )
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
    monkeypatch.setattr(
        "datasets.load_dataset", lambda *args, **rest: asked.append((args, rest)) or [CHAT]
    )
    checked = hub(config, split={"train": "train[:10]", "test": "held_out"})
    placed, _, reader = read_all(checked, tmp_path)
    assert [call[0] for call in asked] == [("owner/name", "all")] * 2
    assert {(call[1]["split"], call[1]["revision"]) for call in asked} == {
        ("train[:10]", "commit of main"), ("held_out", "commit of main")
    }  # fmt: skip
    assert reader.source.metadata == {"kind": "hub", "id": "owner/name", "commit": "commit of main"}
    assert "test" in {row.split for row in placed} and reader.source.given_splits() == {
        "train",
        "test",
    }


def test_a_hub_that_does_not_answer_is_one_message(config):
    with pytest.raises(
        UserError, match=r"data\.source\.id 'owner/name': cannot be found on the Hugging Face Hub"
    ):
        list(Source(hub(config).data, hub(config).checks).rows())


def test_a_file_for_each_split_keeps_them(config, tmp_path):
    write(tmp_path / "a.jsonl", *[{"prompt": f"q{n}", "completion": "a"} for n in range(50)])
    write(tmp_path / "b.jsonl", {"prompt": "held out", "completion": "a"})
    paths = {"train": str(tmp_path / "a.jsonl"), "test": str(tmp_path / "b.jsonl")}
    checked = with_source(config(), {"kind": "file", "path": paths})
    placed, *_ = read_all(checked, tmp_path)
    found = {
        split: [row.record.prompt[0]["content"] for row in placed if row.split == split]
        for split in ("train", "test")
    }
    assert (
        found["test"] == ["held out"] and 30 < len(found["train"]) < 50
    )  # validation comes out of train


def test_a_url_is_read_as_a_file(config):
    with fsspec.open("memory://bucket/chats/a.jsonl", "wb") as file:
        file.write(json.dumps(CHAT).encode())
    records, findings, _ = read(config, "memory://bucket/chats/*.jsonl")
    assert len(records) == 1 and findings == []


def test_s3_says_what_to_install(config):
    with pytest.raises(UserError, match=r"'\.\[s3\]'"):
        checked = config("data.source.path=s3://bucket/a.jsonl")
        list(Source(checked.data, checked.checks).rows())


def test_paragraphs_are_rows_of_prose(config, tmp_path):
    (tmp_path / "book.txt").write_text("One\nline.\n\n\nTwo.\n", encoding="utf-8-sig")
    records, findings, _ = read(config, tmp_path / "book.txt", "train.record_types=[text]")
    assert [record.target for record in records] == ["One\nline.", "Two."] and findings == []


def test_a_line_of_text_becomes_a_row_by_the_named_groups_of_an_expression(config, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(
        "HUM:ind Who was she ?\n\nno label here\nLOC:city Où est-ce ?\n".encode() + b"NUM:x \xff\n"
    )
    pattern = r"data.lines='(?P<label>[A-Z]+):\S+ (?P<text>.+)'"
    records, findings, reader = read(config, path, pattern)
    assert [(record.question, record.target) for record in records] == [
        ("Who was she ?", "HUM"),
        ("Où est-ce ?", "LOC"),
    ]
    assert [(found.code, found.line) for found in findings if found.line] == [
        ("bad_json", 3),
        ("encoding", 5),
    ]
    assert reader.format == "labelled" and records[0].meta["label"] == "HUM"


@pytest.mark.parametrize(
    ("pattern", "message"), [("'('", "not a regular expression"), ("'.+'", "name the columns")]
)
def test_an_expression_that_makes_no_columns_is_refused(config, pattern, message):
    with pytest.raises(UserError, match=message):
        config(f"data.lines={pattern}")
