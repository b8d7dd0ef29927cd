"""Locks between processes."""

import logging
import os
import subprocess
import sys

import pytest

from stages.core.storage import locks
from stages.core.storage.locks import LockTimeoutError, hold_lock
from tests.conftest import ROOT

HOLD = """
import sys
from pathlib import Path
from stages.core.storage.locks import hold_lock
with hold_lock(Path(sys.argv[1]), "the thing"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a lock until it reads a line."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "thing.lock")]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_of_another_process_is_waited_for_and_its_holder_is_named(
    holder, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    wanted = rf"the thing is in use by process {holder.pid} on .* since 20\d\d-.*0.1 seconds"
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(LockTimeoutError, match=wanted),
        hold_lock(tmp_path / "thing.lock", "the thing", 0.1),
    ):
        pass
    assert f"Waiting for the thing, which is in use by process {holder.pid} on " in caplog.text
    holder.communicate("\n")
    with hold_lock(tmp_path / "thing.lock", "the thing", 100):
        pass
    assert not (tmp_path / "thing.lock.json").exists()


def test_a_killed_process_holds_nothing(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert (tmp_path / "thing.lock.json").exists()
    with hold_lock(tmp_path / "thing.lock", "the thing", 0.1):
        assert str(os.getpid()) in (tmp_path / "thing.lock.json").read_text()


def test_a_holder_without_a_name_is_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.01)
    with hold_lock(tmp_path / "thing.lock", "the thing"):
        (tmp_path / "thing.lock.json").write_text("{")
        with (
            pytest.raises(LockTimeoutError, match="in use by another process"),
            hold_lock(tmp_path / "thing.lock", "the thing", 0.02),
        ):
            pass
