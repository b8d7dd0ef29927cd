"""Training as a job of SLURM through submitit: one task a node, each with accelerate's launcher.

This process waits, shows the log of the first node and cancels the job when it is interrupted. A job that SLURM
preempts or cuts off at its time limit is put into the queue again and goes on from its last checkpoint.
"""

import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.config.train import Slurm
from stages.core.environment.processes import ended_by_sigterm
from stages.core.errors import UserError
from stages.train.distributed.accelerate_args import ROOT, Node
from stages.train.distributed.workers import run_workers, write_values

PORTS = (
    20_000,
    20_000,
)  # the first one, and how many: the job's number chooses, so that every node knows it
SECONDS = 2.0  # between two looks at a job
LOG_LINES = 30  # in a message
MESSAGE = "message"  # of a failure: a file in the folder of the task


@dataclass
class Task:
    """What one node does. submitit carries it there, and back into the queue after a preemption."""

    launcher: Slurm
    folder: Path
    runs: list[str]
    here: Path
    """The folder with `data/`, as it was where the job was submitted."""

    def __call__(self) -> None:
        """Run the node's workers; the first node that fails leaves its message in the folder."""
        from submitit import JobEnvironment

        os.chdir(self.here)
        job = JobEnvironment()
        if job.node == 0:  # of an attempt before a preemption
            (self.folder / MESSAGE).unlink(missing_ok=True)
        number = int("".join(filter(str.isdigit, job.job_id)))
        node = Node(job.node, job.num_nodes, job.hostnames[0], PORTS[0] + number % PORTS[1])
        try:
            run_workers(self.launcher, self.folder, self.runs, node if node.count > 1 else None)
        except UserError as error:
            with suppress(FileExistsError), (self.folder / MESSAGE).open("x") as file:
                file.write(str(error))
            raise  # the task ends with an error, so that SLURM may end those on other nodes

    def checkpoint(self) -> Any:
        """The same again: the checkpoints of training are on the disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(launcher: Slurm, values: dict[str, Any], runs: Sequence[str]) -> None:
    """Submit the job and wait for its end.

    Args:
        launcher: what to ask of SLURM.
        values: the resolved configuration and the seed of training.
        runs: MLflow runs of the stage.

    Raises:
        UserError: submitit is not installed or does not take the job, or the job failed.
    """
    executor = get_executor(launcher)
    task = Task(
        launcher, Path(launcher.folder).resolve() / uuid.uuid4().hex[:8], list(runs), Path.cwd()
    )
    write_values(values, task.folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    )
    with ended_by_sigterm(), _explained():
        job = executor.submit(task)
        sys.stderr.write(f"job {job.job_id}; its logs are in {task.folder.parent}\n")
        try:
            _follow(job)
        except BaseException:
            job.cancel(check=False)
            raise
    _judge(job, task.folder / MESSAGE)


def get_executor(launcher: Slurm) -> Any:
    """submitit's executor with all parameters.

    Raises:
        UserError: submitit is not installed, or does not take a parameter, or finds no SLURM.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(
            "train.launcher: kind=slurm needs submitit: pip install -c constraints.txt '.[slurm]'"
        ) from None
    asked = {
        "name": "tuneproof",
        "nodes": launcher.nodes,
        "tasks_per_node": 1,
        "timeout_min": launcher.minutes,
    }
    with _explained():
        executor = submitit.AutoExecutor(
            folder=Path(launcher.folder).resolve(), cluster=launcher.cluster
        )
        executor.update_parameters(**asked, **launcher.parameters)
    return executor


@contextmanager
def _explained() -> Iterator[None]:
    """What submitit and SLURM refuse, as a `UserError`."""
    try:
        yield
    except (AssertionError, NameError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"train.launcher: submitit does not take the job: {error}") from None


def _follow(job: Any) -> None:
    """Show the first node's log until the job has ended."""
    log = job.task(0).paths.stderr
    shown = 0
    done = False
    while not done:
        done = job.done()
        if log.exists():
            with log.open("rb") as file:
                file.seek(shown)
                text = file.read()
            shown += len(text)
            sys.stderr.write(text.decode(errors="replace"))
            sys.stderr.flush()
        time.sleep(0 if done else SECONDS)


def _judge(job: Any, message: Path) -> None:
    """Raise a `UserError` where a node failed; its message was written by whichever process knew why."""
    try:
        job.results()
    except Exception as error:  # submitit's own kinds, and whatever was raised on a node
        if message.exists():
            raise UserError(f"job {job.job_id}: {message.read_text()}") from None
        log = "\n".join((job.task(0).stderr() or "").splitlines()[-LOG_LINES:])
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"job {job.job_id} ended as {job.state}: {reason}; its log ends:\n{log}"
        ) from None
