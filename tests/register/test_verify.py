"""Verification of a registered version, on the tiny model in a git repository of its own."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from stages.core.config.schema import parse
from stages.core.data.records import read_records
from stages.core.environment.repository import git_commit
from stages.core.storage.files import write_json
from stages.core.tracking.version_files import fetch_model
from stages.core.tracking.versions import connect, find_version
from stages.register import origin
from stages.register.__main__ import main as register
from tests.conftest import TINY, compose_config, entered
from tests.register.conftest import OPEN
from tools.verify.__main__ import main
from tools.verify.checks import CHECKS, check_all
from tools.verify.outcome import Status
from tools.verify.recorded import Places, Recorded
from tools.verify.rerun import _restore

REFERENCE = "tuneproof-chat-jsonl@champion"
CODE = "code of the metric"  # the repository of these tests has no code


def git(*arguments):
    person = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run(["git", *person, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def registered(stages_up_to_register, tmp_path_factory):
    """A folder in which the model was registered, its version and the folder with its artifacts."""
    folder = tmp_path_factory.mktemp("registered") / "one"
    shutil.copytree(stages_up_to_register, folder)
    with entered(folder):
        Path(".gitignore").write_text("*\n!stages/**\n!stages/\n")
        git("init", "-q")
        git("commit", "-q", "--allow-empty", "-m", "Start")
        measured = json.loads(Path("reports/measured.json").read_text())
        measured["lineage"] |= {"git_commit": git_commit(), "git_dirty": True}
        write_json(Path("reports/measured.json"), measured)
        Path("stages").mkdir()
        Path("stages/mine.py").write_text("EDITED = True\n")
        register(compose_config(*TINY, *OPEN))
        config = parse(compose_config(*TINY, *OPEN))
        version = find_version(connect(config.tracking), REFERENCE)
        return folder, version, fetch_model(version.uri)


@pytest.fixture
def verify(registered, workspace, tmp_path):
    """Return a function that verifies the model in a copy of its folder and of its artifacts."""
    folder, version, artifacts = registered
    shutil.copytree(folder, workspace, dirs_exist_ok=True)
    config = parse(compose_config(*TINY, *OPEN))
    copy = tmp_path / "artifacts"
    shutil.copytree(artifacts, copy)

    def verify(**tags):
        changed = replace(version, tags={**version.tags, **tags})
        return dict(check_all(Recorded(changed, copy, config)))

    verify.folder = copy
    return verify


def test_an_alias_alone_is_of_the_model_in_params(registered, workspace, monkeypatch, capsys):
    shutil.copytree(registered[0], workspace, dirs_exist_ok=True)
    Path("params.yaml").write_text(OmegaConf.to_yaml(compose_config(*TINY, *OPEN)))
    monkeypatch.setattr(sys, "argv", ["verify", "model=@champion"])
    with pytest.raises(SystemExit):
        main()
    assert "tuneproof-chat-jsonl version 1" in capsys.readouterr().out


def status_of(outcomes):
    return {what: outcome.status for what, outcome in outcomes.items()}


def test_all_holds_right_after_the_registration(verify):
    outcomes = verify()
    assert outcomes.keys() == CHECKS.keys()
    known = {CODE: Status.UNKNOWN, "raw data": Status.UNKNOWN}
    assert status_of(outcomes) == dict.fromkeys(CHECKS, Status.HOLDS) | known, outcomes
    assert "stages/mine.py" in outcomes["changes since the commit"].sentence
    assert "it was not committed" in outcomes[CODE].sentence


def change_text(path):
    path.write_text(path.read_text().replace("a", "b", 1))


def change_packages(folder, line):
    """Record a package in a version that is not installed, or one that is nowhere."""
    path = folder / "origin/packages.txt"
    lines = [*path.read_text().split(), line]
    path.write_text("\n".join({one.split("==")[0]: one for one in lines}.values()))


def improve_an_answer(folder):
    kept = json.loads((folder / "test_answers.json").read_text())
    row = read_records("test")[0]
    write_json(folder / "test_answers.json", kept | {row.id: row.target})


def change_a_value(folder):
    verdict = json.loads((folder / "origin/verdict.json").read_text())
    write_json(folder / "origin/verdict.json", verdict | {"rows": 11})


CHANGES = {
    "served files": lambda folder: change_text(folder / "model/config.json"),
    "chat template": lambda folder: change_text(
        folder / "components/tokenizer/chat_template.jinja"
    ),
    "recorded origin": lambda folder: change_text(folder / "origin/packages.txt"),
    "packages": lambda folder: change_packages(folder, "mlflow==9.0"),
    "configuration": lambda folder: change_text(folder / "origin/config.json"),
    "verdict": change_a_value,
    "value of the model": improve_an_answer,
    "changes since the commit": lambda folder: (folder / "origin/changes.diff").write_text("x"),
    "answers of all arms": lambda _: Path("predictions/tuned.jsonl").write_text("{}"),
    "prepared data": lambda _: change_text(Path("data/prepared/train.jsonl")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_changed_has_drifted(verify, what):
    CHANGES[what](verify.folder)
    assert verify()[what].status is Status.DRIFTED


@pytest.mark.parametrize(
    ("what", "tags"),
    [
        ("seeds", {"seed": "43"}),
        ("base model", {"base_model_sha256": "0" * 64}),
        ("verdict", {"verdict": "fine-tune"}),
        ("value of the model", {"primary_value": "0.987"}),
    ],
)
def test_tags_that_were_changed_have_drifted(verify, what, tags):
    assert verify(**tags)[what].status is Status.DRIFTED


@pytest.mark.parametrize(
    ("what", "path"),
    [
        ("answers of all arms", "predictions/tuned.jsonl"),
        ("weights and tokenizer", "models/tuned/adapter_model.safetensors"),
        ("prepared data", "data/prepared/train.jsonl"),
        ("value of the model", "data/prepared/test.jsonl"),
    ],
)
def test_what_is_not_here_is_unknown_and_not_drifted(verify, what, path):
    Path(path).unlink()
    assert verify()[what].status is Status.UNKNOWN


def test_packages_that_are_not_here_are_unknown_and_added_ones_change_nothing(verify):
    path = verify.folder / "origin/packages.txt"
    first, *others = path.read_text().split()
    path.write_text("\n".join(others))
    found = verify()["packages"]
    assert found.status is Status.HOLDS
    assert found.sentence.endswith(f"; installed since: {first.split('==')[0]}")
    change_packages(verify.folder, "of-another-machine==1.0")
    found = verify()["packages"]
    assert found.status is Status.UNKNOWN and "of-another-machine" in found.sentence


def test_damaged_files_leave_unknown_what_they_would_say(verify):
    (verify.folder / "origin/verdict.json").write_text("{}")
    outcomes = verify()
    assert outcomes["recorded origin"].status is Status.DRIFTED
    assert outcomes["value of the model"].status is Status.UNKNOWN


def test_a_commit_that_is_not_here_is_unknown(verify):
    found = verify(git_commit="0" * 40)["git commit"]
    assert found.status is Status.UNKNOWN and "git fetch" in found.sentence


def test_a_file_is_found_in_the_cache_of_dvc(workspace):
    from dvc.repo import Repo

    git("init", "-q")
    repo = Repo.init()
    Path("models").mkdir()
    Path("models/weights").write_text("recorded")
    Path("one").write_text("recorded alone")
    for name in ("models", "one"):
        repo.add(name)
    import hashlib

    from omegaconf import OmegaConf

    outs = [
        OmegaConf.to_container(OmegaConf.load(f"{n}.dvc"))["outs"][0] for n in ("models", "one")
    ]
    places = Places({"train": {"outs": outs}})
    for name, text in (("models/weights", b"recorded"), ("one", b"recorded alone")):
        digest = hashlib.sha256(text).hexdigest()
        assert places.find(name, digest) == Path(name)
        Path(name).unlink()
        Path(name).write_text("other")
        found = places.find(name, digest)
        assert found is not None and found.read_bytes() == text
        assert places.find(name, "0" * 64) is None


def test_what_a_tag_names_and_is_gone_has_drifted(verify):
    shutil.rmtree(verify.folder / "origin")
    (verify.folder / "components/tokenizer/chat_template.jinja").unlink()
    outcomes = verify()
    assert outcomes["recorded origin"].status is Status.DRIFTED
    assert outcomes["chat template"].status is Status.DRIFTED


def test_code_is_compared_at_the_commit_if_only_data_has_changed(verify):
    (verify.folder / "origin/changes.diff").write_text("diff --git a/data/x.dvc b/data/x.dvc\n")
    found = verify()[CODE]
    assert found.status is Status.UNKNOWN and "git has no stages/" in found.sentence


def test_changes_that_were_not_recorded_are_unknown(verify):
    (verify.folder / "origin/changes.diff").unlink()
    found = verify()["changes since the commit"]
    assert found.status is Status.UNKNOWN and "not recorded" in found.sentence
    assert verify(git_dirty="false")["changes since the commit"].status is Status.HOLDS


@pytest.fixture
def dirty(workspace):
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "Start")
    Path("conf").mkdir()


def write(monkeypatch, text):
    monkeypatch.setattr(origin, "dump_config", lambda _: {})
    Path("conf/mine.yaml").write_text(text)
    Path("origin").mkdir()
    lineage = {"git_commit": git_commit(), "git_dirty": True}
    origin.write_origin(Path("origin"), SimpleNamespace(run=None), lineage)
    return Path("origin/changes.diff")


def test_a_patch_is_kept_as_it_is_with_the_files_of_dvc(dirty, monkeypatch):
    Path("data").mkdir()
    Path("data/mine.jsonl.dvc").write_text("outs: []\n")
    Path("conf/noise.bin").write_bytes(Random(1).randbytes(3_000))
    text = "a: https://example.org/rows?version=3&split=train\n"
    patch = write(monkeypatch, text)
    Path("conf/mine.yaml").unlink()
    Path("conf/noise.bin").unlink()
    Path("data/mine.jsonl.dvc").unlink()
    git("apply", str(patch))
    assert Path("conf/mine.yaml").read_text() == text
    assert Path("data/mine.jsonl.dvc").exists()


def test_a_patch_with_a_secret_is_not_kept(dirty, monkeypatch, caplog):
    patch = write(monkeypatch, "a: https://me:hunter2@example.org/rows\n")
    assert not patch.exists()
    assert "hold the user or password of a URL" in caplog.text and "hunter2" not in caplog.text


def test_a_rerun_has_the_recorded_sections_whole(workspace):
    """The commit reads a wheel, and the version was made from a file of the user's."""
    Path("params.yaml").write_text("data: {source: {kind: wheel, member: a}}\nrivals: {full: {}}\n")
    settings = {"data": {"source": {"kind": "file"}}, "rivals": {}}
    _restore(SimpleNamespace(origin=Path("origin"), settings=settings), Path())
    assert OmegaConf.to_container(OmegaConf.load("params.yaml")) == settings
