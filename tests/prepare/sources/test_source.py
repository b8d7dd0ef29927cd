import json
from types import SimpleNamespace

import fsspec
import pytest

from stages.core.config.schema import parse
from stages.core.errors import UserError
from stages.prepare.findings import Findings
from stages.prepare.reading import Reader
from stages.prepare.sources.source import Source
from tests.conftest import compose_config
from tests.prepare.rows import CHAT, read, write
from tests.web_server import WebServer

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
        UserError, match=r"data\.source\.id 'owner/name': .* HF_HUB_OFFLINE forbids"
    ):
        list(Source(hub(config).data, hub(config).checks).rows())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.py", b"1 / 0\n", "a Python script, which Tuneproof does not execute"),
        ("rows.zip", b"PK\x03\x04", "BadZipFile"),
        ("rows.jsonl.gz", b"\x1f\x8b", "EOFError"),
        ("README.md", b"---\nconfigs: [\n---\n", "ParserError"),
        ("rows.jsonl", b'{"prompt": ' + b"[" * 2000 + b"]" * 2000 + b"}\n", "RecursionError"),
    ],
)
def test_a_folder_that_datasets_cannot_read_is_one_message(
    config, tmp_path, name, content, message
):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / name).write_bytes(content)
    checked = hub(config, id=str(folder), configuration=None)
    with pytest.raises(UserError, match=rf"data\.source '{folder}', split 'train': .*{message}"):
        list(Source(checked.data, checked.checks).rows())


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


def test_a_url_with_a_query_is_read_and_shown_without_its_values(config, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    rows = f"{json.dumps(CHAT)}\nnot JSON\n".encode()
    with WebServer() as server:
        server.files["/rows[1].jsonl?version=*"] = rows
        records, findings, _ = read(config, f"{server.url}/rows[1].jsonl?version=*")
    assert len(records) == 1 and [found.code for found in findings if found.line] == ["bad_json"]
    assert findings[0].file == f"{server.url}/rows[1].jsonl?version=***"


def test_a_url_that_is_a_secret_comes_from_the_environment(config, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    checked = parse(compose_config("model=tiny-random", "data=secret-url"))
    with pytest.raises(UserError, match="set the environment variable ROWS_URL to the URL"):
        list(Source(checked.data, checked.checks).rows())
    with WebServer() as server:
        server.files["/rows.jsonl?X-Amz-Signature=pa55w0rd"] = json.dumps(CHAT).encode()
        monkeypatch.setenv("ROWS_URL", f"{server.url}/rows.jsonl?X-Amz-Signature=pa55w0rd")
        placed, _, _ = read_all(checked, tmp_path)
        assert placed[0].file == f"{server.url}/rows.jsonl?X-Amz-Signature=***"
        monkeypatch.setenv("ROWS_URL", f"{server.url}/status/403/rows.jsonl?sig=pa55w0rd")
        with pytest.raises(
            UserError, match=r"sig=\*\*\*: the server answers 403: it denies access"
        ):
            list(Source(checked.data, checked.checks).rows())


def test_an_unknown_extension_behind_a_url_is_told_before_the_download(config):
    with pytest.raises(UserError, match=r"host/a\?x=\*\*\*: unknown file extension"):
        checked = config("data.source.path='http://no.invalid/host/a?x=1.jsonl'")
        list(Source(checked.data, checked.checks).rows())


def test_a_data_set_that_is_a_script_is_not_executed(config, tmp_path):
    script = tmp_path / "hub" / "hub.py"
    script.parent.mkdir()
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UserError, match="a Python script, which Tuneproof does not execute"):
        checked = hub(config, id=str(script.parent), configuration=None)
        list(Source(checked.data, checked.checks).rows())
    assert not (tmp_path / "ran").exists()


def test_s3_says_what_to_install(config):
    with pytest.raises(UserError, match=r"--group s3"):
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
