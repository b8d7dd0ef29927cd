"""How many cores a process may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.environment.processes import count_cores, count_queue_workers

WORKER = ["-c", "import time; time.sleep(60)", "exp", "queue-worker"]


@pytest.fixture
def workers():
    """Two processes that look like workers of the queue, one of which shows up twice, as with a parent."""
    names = ("dvc-exp-0-1@localhost", "dvc-exp-0-1@localhost", "dvc-exp-0-2@localhost")
    started = [subprocess.Popen([sys.executable, *WORKER, name, "--clean"]) for name in names]
    yield
    for process in started:
        process.kill()
        process.wait()


def test_only_an_experiment_of_the_queue_shares_the_cores(workers, monkeypatch, tmp_path):
    allowed = len(os.sched_getaffinity(0))
    assert (count_queue_workers(), count_cores()) == (1, allowed)
    monkeypatch.setenv("DVC_ROOT", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    assert count_queue_workers() >= 2 and count_cores() == max(1, allowed // count_queue_workers())
