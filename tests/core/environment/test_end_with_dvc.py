"""A stage ends with the DVC process that started it."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.conftest import ROOT

STAGE = """
import sys
import time
sys.orig_argv = ["python", "-m", "stages.train"]
from stages.core.environment import processes
processes.SECOND = 0.05
processes.end_with_dvc("train")
print("started", flush=True)
time.sleep(60)
"""
# It stands for DVC and prints the process of the stage. The shell either runs beside the stage or
# becomes the stage.
DVC = """
import os, subprocess, sys
command = sys.argv[1] + ' -c "$CODE" ' + os.environ["NAME"] + sys.argv[2]
process = subprocess.Popen(["/bin/sh", "-c", command])
print(process.pid, flush=True)
process.wait()
"""


@pytest.mark.parametrize("rest", ["", "; true"])
def test_a_stage_ends_soon_after_dvc_is_killed(rest):
    dvc = subprocess.Popen(
        [sys.executable, "-c", DVC, sys.executable, rest],
        env={
            **os.environ,
            "DVC_STAGE": "train",
            "CODE": STAGE,
            "NAME": "stages.train",
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    shell = psutil.Process(int(dvc.stdout.readline()))
    assert dvc.stdout.readline() == "started\n"
    family = [shell, *shell.children(recursive=True)]
    assert all(process.is_running() for process in family)
    dvc.send_signal(signal.SIGKILL)
    dvc.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
