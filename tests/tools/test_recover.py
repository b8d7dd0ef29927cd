"""What a killed DVC leaves is repaired, and nothing that is sound is touched."""

import subprocess
import sys

import pytest

from stages.core.errors import UserError
from tests.conftest import ROOT
from tools.recover import (
    DAMAGED,
    KEPT,
    check_git,
    check_params,
    main,
    remove_broken_rwlock,
    restore_lock,
)

HASH = "0123456789abcdef0123456789abcdef"
LOCK = f"""schema: '2.0'
stages:
  prepare:
    cmd: python -m stages.prepare
    deps:
    - path: data/rows.jsonl
      hash: md5
      md5: {HASH}
      size: 10
    outs:
    - path: data/prepared
      hash: md5
      md5: {HASH}.dir
      size: 10
"""

DAMAGES = ["", "\n", "schema", LOCK[:200], LOCK.replace(HASH, HASH[:4])]
# DVC takes the entries that are missing from its run cache.
SOUND = [LOCK, LOCK[: LOCK.index("outs")]]


@pytest.fixture
def lock(workspace):
    """A repository whose commit has a sound `dvc.lock`."""
    path = workspace / "dvc.lock"
    path.write_text(LOCK)
    for command in (
        ("init", "-q"),
        ("add", "-A"),
        ("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-q", "-m", "x"),
    ):
        subprocess.run(["git", *command], check=True)
    return path


@pytest.mark.parametrize("damaged", DAMAGES)
def test_a_damaged_lock_is_restored_from_the_commit(lock, damaged):
    lock.write_text(damaged)
    assert "restored from the commit" in restore_lock()
    assert lock.read_text() == LOCK and DAMAGED.read_text() == damaged


@pytest.mark.parametrize("sound", SOUND)
def test_a_sound_lock_stays(lock, sound):
    lock.write_text(sound)
    assert restore_lock() is None and lock.read_text() == sound


def test_the_last_sound_lock_is_newer_than_the_commit(lock):
    newer = LOCK.replace("size: 10", "size: 11")
    lock.write_text(newer)
    assert restore_lock() is None and lock.read_text() == newer
    lock.write_bytes(b"")
    assert "restored from the last run" in restore_lock()
    assert lock.read_text() == newer == KEPT.read_text()


@pytest.mark.parametrize("end", range(0, len(LOCK), 7))
def test_no_cut_leaves_a_lock_with_a_hash_that_is_cut_off(lock, end):
    lock.write_text(LOCK[:end])
    restore_lock()
    hashes = {line.strip() for line in lock.read_text().splitlines() if "md5:" in line}
    assert hashes <= {f"md5: {HASH}", f"md5: {HASH}.dir"}


def test_without_a_commit_the_damaged_lock_is_put_aside(workspace):
    (workspace / "dvc.lock").write_bytes(b"")
    assert "removed" in restore_lock() and not (workspace / "dvc.lock").exists()


def test_a_merge_conflict_is_the_users_to_resolve(lock):
    conflict = LOCK.replace("stages:", "<<<<<<< HEAD\nstages:\n=======\n>>>>>>> other")
    lock.write_text(conflict)
    with pytest.raises(UserError, match=r"git checkout --ours dvc\.lock"):
        restore_lock()
    assert lock.read_text() == conflict


def test_a_missing_lock_is_that_of_a_pipeline_that_never_ran(workspace):
    assert restore_lock() is None


@pytest.mark.parametrize(("text", "broken"), [("", True), ('{"read": {', True), ("{}", False)])
def test_a_damaged_list_of_busy_files_is_removed(workspace, text, broken):
    path = workspace / "rwlock"
    path.write_text(text)
    assert bool(remove_broken_rwlock(path)) == broken and path.exists() != broken
    assert remove_broken_rwlock(workspace / "none") is None


def test_damaged_params_are_not_guessed(workspace):
    path = workspace / "params.yaml"
    sound = (ROOT / "params.yaml").read_text()
    path.write_text(sound)
    check_params(path)
    for text in ("", sound[: sound.index("register:")], "a: [", "- a"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"git checkout -- .*params\.yaml"):
            check_params(path)


def test_a_locked_index_is_named(lock):
    check_git()
    (lock.parent / ".git/index.lock").touch()
    with pytest.raises(UserError, match=r"rm \.git/index\.lock"):
        check_git()


def test_the_tool_says_in_one_sentence_what_it_repaired(lock, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recover"])
    (lock.parent / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    main()
    assert not capsys.readouterr().err
    lock.write_bytes(b"")
    main()
    assert capsys.readouterr().err.count("\n") == 1
