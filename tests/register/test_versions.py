"""Registered versions are found by their names, and changed files are noticed."""

import shutil
from dataclasses import replace

import pytest

from stages.core.config.schema import parse
from stages.core.errors import UserError
from stages.core.tracking.version_files import check_artifact, fetch_model, hash_artifact
from stages.core.tracking.versions import complete, connect, find_version, read_asked
from stages.register.__main__ import main as register
from tests.conftest import TINY, compose_config, entered
from tests.register.conftest import OPEN

NAME = "tuneproof-chat-jsonl"


@pytest.fixture(scope="module")
def registered(stages_up_to_register, tmp_path_factory):
    """A folder with a registered model, which the tests leave as it is."""
    folder = tmp_path_factory.mktemp("registered") / "one"
    shutil.copytree(stages_up_to_register, folder)
    with entered(folder):
        register(compose_config(*TINY, *OPEN))
    return folder


@pytest.fixture
def client(registered):
    with entered(registered):
        yield connect(parse(compose_config(*TINY, *OPEN)).tracking)


def test_a_version_is_found_and_its_files_are_what_was_registered(client, tmp_path):
    version = find_version(client, f"{NAME}@champion")
    for reference in (f"models:/{NAME}/1", f"{NAME}/1", "@champion", "1"):
        assert find_version(client, complete(reference, NAME)) == version
    assert (version.number, version.aliases, version.uri) == (
        "1",
        ("champion",),
        f"models:/{NAME}/1",
    )
    asked = read_asked(version.uri)
    assert (asked["method"], asked["system_prompt"], asked["max_new_tokens"]) == ("sft", None, 8)
    folder = fetch_model(version.uri)
    check_artifact(version, folder)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert hash_artifact(copy) == version.tags["files_sha256"]


CHANGES = {
    "components/tokenizer/chat_template.jinja": ("", " "),
    "test_answers.json": ("", " "),
    "adapter/adapter_config.json": ("", " "),
    "MLmodel": ("torch_dtype: torch.float32", "torch_dtype: torch.bfloat16"),
    "./MLmodel": ("max_new_tokens: 8", "max_new_tokens: 9"),
    "././MLmodel": ("asked:", "said:"),
}


@pytest.mark.parametrize("path", CHANGES)
def test_changed_files_are_noticed_before_they_are_used(client, tmp_path, path):
    version = find_version(client, f"{NAME}@champion")
    copy = tmp_path / "copy"
    shutil.copytree(fetch_model(version.uri), copy)
    text = (copy / path).read_text()
    assert CHANGES[path][0] in text
    (copy / path).write_text(text.replace(*CHANGES[path], 1))
    with pytest.raises(UserError, match=r"were\s+changed after the registration"):
        check_artifact(version, copy)
    with pytest.raises(UserError, match="has no hash of its files"):
        check_artifact(replace(version, tags={}), copy)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nobody@champion", f"no registered model has the name nobody. There are: {NAME}"),
        (f"{NAME}@other", r"Versions: 1. Aliases: champion \(version 1\)"),
        (f"{NAME}/7", "there is no such version"),
        (NAME, "Write <name>@<alias>"),
        (f"{NAME}@a@b", "Write <name>@<alias>"),
    ],
)
def test_what_does_not_exist_is_said_with_what_there_is(client, reference, said):
    with pytest.raises(UserError, match=said):
        find_version(client, reference)


def test_a_missing_database_is_not_created(workspace):
    config = parse(compose_config(*TINY, *OPEN))
    with pytest.raises(UserError, match="there is no registry at"):
        connect(config.tracking)
    assert not (workspace / "mlflow.db").exists()


def test_a_server_that_is_away_is_one_message(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    config = parse(compose_config(*TINY, *OPEN, "tracking.timeout=1"))
    with pytest.raises(UserError, match=r"does not answer .* Check MLFLOW_TRACKING_URI") as said:
        connect(config.tracking)
    assert "secret" not in str(said.value)
