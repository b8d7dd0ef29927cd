"""A lock names its holder, and a killed holder blocks nobody."""

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.storage import locks
from stages.core.storage.locks import LockTimeoutError, one_at_a_time
from tests.conftest import ROOT

HOLD = """
import sys
from pathlib import Path
from stages.core.storage.locks import one_at_a_time
with one_at_a_time(Path("a.lock"), "The folder", 0, ""):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(workspace):
    """Run another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def lock(workspace):
    return lambda seconds=0: one_at_a_time(
        workspace / "a.lock", "The folder", seconds, "Wait until it has ended."
    )


def test_a_second_process_is_told_who_holds_the_lock(holder, lock, caplog, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    with pytest.raises(LockTimeoutError) as refused, lock(0.1):
        pass
    said = f"The folder is in use by process {holder.pid} on {socket.gethostname()} (`python"
    assert str(refused.value).startswith(said) and ", since 2" in str(refused.value)
    assert str(refused.value).endswith("Wait until it has ended.")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Waiting for up to" in caplog.text


def test_a_process_that_waits_gets_the_lock(holder, lock):
    holder.stdin.close()
    with lock(60):
        assert json.loads(Path("a.lock").read_text())["pid"] == os.getpid()


def test_a_killed_process_blocks_nobody(holder, lock):
    holder.kill()
    holder.wait()
    with lock():
        assert json.loads(Path("a.lock").read_text())["pid"] == os.getpid()


def test_a_holder_that_has_written_nothing_is_another_process(holder, lock, workspace):
    (workspace / "a.lock").write_text("")
    with pytest.raises(LockTimeoutError, match="in use by another process"), lock():
        pass
