"""Jobs of submitit on this machine; for SLURM itself, the script that it would get."""

import os
import signal
import sys
import threading
from pathlib import Path

import psutil
import pytest

from stages.core.errors import UserError
from stages.train.distributed import slurm
from tests.train.distributed.test_launch import is_alive, wait_for
from tests.train.distributed.workers.job import FailingTask


@pytest.fixture
def submit(config, workspace, monkeypatch):
    """Submit a job on this machine whose workers end as said."""
    monkeypatch.setattr(slurm, "SECONDS", 0.1)
    monkeypatch.setattr(slurm, "Task", FailingTask)
    two = (
        "train/launcher=slurm",
        "train.launcher.cluster=local",
        "train.launcher.num_processes=2",
        "train.launcher.minutes=30",
    )
    launcher = config(*two, "train.launcher.config_file=null").train.launcher

    def with_end(ends):
        monkeypatch.setenv("ENDS", ends)
        slurm.submit(launcher, {}, ())

    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs ignore it, ...
    yield with_end  # ... as would the job here, which submitit cancels by it
    signal.signal(signal.SIGINT, before)


def worker():
    wait_for(lambda: all(Path(f"pid{rank}").exists() for rank in (0, 1)))
    return psutil.Process(int(Path("pid1").read_text()))


def test_the_message_of_a_job_that_fails_is_that_of_its_worker(submit):
    with pytest.raises(UserError, match=r"^job \d+: the loss is nan at step 7$"):
        submit("mistake")


def test_a_preempted_job_is_queued_again_and_goes_on(submit, capfd):
    def preempt():
        for process in (worker(), worker().parent()):  # as SLURM does: every process of the job
            process.send_signal(signal.SIGUSR2)

    thread = threading.Thread(target=preempt)
    thread.start()
    submit("at the second attempt")
    thread.join()
    assert "Traceback" not in capfd.readouterr().err


def test_an_interrupted_wait_cancels_the_job(submit, monkeypatch):
    def follow(job):
        worker()
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "_follow", follow)
    with pytest.raises(KeyboardInterrupt):
        submit("never")
    wait_for(lambda: not any(is_alive(int(Path(f"pid{rank}").read_text())) for rank in (0, 1)))


def test_slurm_gets_one_task_a_node_with_all_gpus(config, workspace, monkeypatch):
    (workspace / "srun").touch(mode=0o755)  # submitit looks whether SLURM is there
    monkeypatch.setenv("PATH", str(workspace), prepend=os.pathsep)
    launcher = config(
        "train/launcher=slurm",
        "train.launcher.nodes=2",
        "+train.launcher.parameters.slurm_partition=gpus",
    )
    executor = slurm.get_executor(launcher.train.launcher)
    script = executor._executor._make_submission_file_text("command", "1")
    for option in (
        "nodes=2",
        "ntasks-per-node=1",
        "gpus-per-node=8",
        "time=720",
        "signal=USR2@90",
        "partition=gpus",
    ):
        assert f"#SBATCH --{option}\n" in script
    assert "--kill-on-bad-exit=1" in script


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.launcher.cluster=slurm", "train.launcher: submitit rejects the job: .*srun"),
        (
            "+train.launcher.parameters.slurm_partion=x",
            "train.launcher: submitit rejects the job: .*partion",
        ),
    ],
)
def test_what_slurm_does_not_take_is_named(config, workspace, monkeypatch, override, said):
    monkeypatch.setenv("PATH", str(workspace))
    launcher = config(
        "train/launcher=slurm", "train.launcher.cluster=local", override
    ).train.launcher
    with pytest.raises(UserError, match=said):
        slurm.get_executor(launcher)


def test_without_submitit_the_message_says_what_to_install(config, workspace, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install -c constraints.txt --group slurm"):
        slurm.get_executor(config("train/launcher=slurm").train.launcher)
