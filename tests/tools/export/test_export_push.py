"""An export is uploaded to a private repository with the token of the environment."""

import pytest
from huggingface_hub import constants

from tests.tools.export.hub_server import Hub
from tools.export.__main__ import main

TOKEN = "hf_" + "Q7d" * 11 + "x"


@pytest.fixture
def hub(monkeypatch):
    made = []

    def start(**how):
        made.append(Hub(**how))
        monkeypatch.setenv("HF_ENDPOINT", made[0].url)
        return made[0]

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield start
    for one in made:
        one.close()


@pytest.fixture
def push(source, tmp_path, monkeypatch):
    def run(*words):
        words = ("model=tuneproof-chat-jsonl/1", "format=adapter", "push=me/model", *words)
        monkeypatch.setattr("sys.argv", ["tools.export", *words, f"to={tmp_path}/out"])
        main()

    return run


def test_every_file_is_uploaded_and_those_of_before_are_deleted(
    hub, push, tmp_path, capsys, caplog
):
    server = hub()
    push()
    expected = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert server.files == expected and server.deleted == ["old.bin"]
    assert server.created["visibility"] == "private"
    assert {key for _, path, key, _ in server.asked if path != "/api/validate-yaml"} == {
        f"Bearer {TOKEN}"
    }
    commit = next(body for _, path, _, body in server.asked if "/commit/" in path)
    assert b"Export tuneproof-chat-jsonl version 1" in commit
    said = capsys.readouterr()
    assert f"Uploaded to {server.url}/me/model/commit/" in said.out
    assert TOKEN not in said.out + said.err + caplog.text
    assert not any(TOKEN.encode() in data for data in expected.values())


def test_a_public_repository_needs_a_word(hub, push):
    server = hub(public=True)
    with pytest.raises(SystemExit) as ended:
        push()
    assert "this repository is public, so nothing was uploaded" in str(ended.value.code)
    assert not server.files
    push("private=false")
    assert server.files


def test_a_repository_that_is_no_export_is_left_alone(hub, push):
    server = hub(there=(".gitattributes", "README.md", "my_thesis.pdf", "weights.bin"))
    with pytest.raises(SystemExit, match=r"other files than an export, such as my_thesis\.pdf"):
        push()
    assert not server.files and not server.deleted
    server.there = (".gitattributes", "README.md")  # a new one
    push()
    assert server.files


@pytest.mark.parametrize(("status", "said"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (409, "409")])
def test_a_refusal_is_one_sentence_and_keeps_the_export(hub, push, tmp_path, status, said):
    hub(fault=status)
    with pytest.raises(SystemExit) as ended:
        push()
    message = str(ended.value.code)
    assert said in message and "push=me/model" in message and TOKEN not in message
    assert (tmp_path / "out/proof.json").exists()


def test_without_a_token_nothing_is_exported(push, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(SystemExit) as ended:
        push()
    assert "Set HF_TOKEN in the environment" in str(ended.value.code)
    assert not (tmp_path / "out").exists()
