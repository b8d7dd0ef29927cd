"""Train in a SLURM job that submitit submits, with one task per node.

Each task runs accelerate's launcher. This process waits, shows the log of the first node and
cancels the job if it is interrupted. If SLURM preempts the job or the job reaches its time limit,
submitit queues it again, and training resumes at its last checkpoint.
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

from stages.core.config.launcher import Slurm
from stages.core.environment.processes import ended_by_sigterm
from stages.core.errors import UserError
from stages.train.distributed.accelerate_args import ROOT, Node
from stages.train.distributed.workers import run_workers, write_values

# The first port and the number of ports. The job number selects the port, so every node knows it.
PORTS = (20_000, 20_000)
SECONDS = 2.0  # The interval between two checks of a job.
LOG_LINES = 30  # The number of log lines in an error message.
MESSAGE = "message"  # The file in the task's folder that holds the error message.


@dataclass
class Task:
    """The work of one node. submitit sends it there and queues it again after a preemption."""

    launcher: Slurm
    folder: Path
    runs: list[str]
    here: Path
    """The working folder with `data/` from which the job was submitted."""

    def __call__(self) -> None:
        """Run the node's workers.

        The first node that fails writes its error message to the folder.
        """
        from submitit import JobEnvironment

        os.chdir(self.here)
        job = JobEnvironment()
        # Remove the message of an attempt before a preemption.
        if job.node == 0:
            (self.folder / MESSAGE).unlink(missing_ok=True)
        number = int("".join(filter(str.isdigit, job.job_id)))
        node = Node(job.node, job.num_nodes, job.hostnames[0], PORTS[0] + number % PORTS[1])
        try:
            run_workers(self.launcher, self.folder, self.runs, node if node.count > 1 else None)
        except UserError as error:
            with suppress(FileExistsError), (self.folder / MESSAGE).open("x") as file:
                file.write(str(error))
            # The task must fail so that SLURM can end the tasks on other nodes.
            raise

    def checkpoint(self) -> Any:
        """Return the same task for resubmission, because training keeps its checkpoints on disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(launcher: Slurm, values: dict[str, Any], runs: Sequence[str]) -> None:
    """Submit the job and wait until it ends.

    Args:
        launcher: The resources to request from SLURM.
        values: The resolved configuration and the training seed.
        runs: The MLflow runs of the stage.

    Raises:
        UserError: If submitit is not installed or rejects the job, or if the job fails.
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
        sys.stderr.write(f"Submitted job {job.job_id}. Its logs are in {task.folder.parent}.\n")
        try:
            _follow(job)
        except BaseException:
            job.cancel(check=False)
            raise
    _judge(job, task.folder / MESSAGE)


def get_executor(launcher: Slurm) -> Any:
    """Create submitit's executor with all parameters.

    Raises:
        UserError: If submitit is not installed, rejects a parameter or finds no SLURM.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(
            "train.launcher.kind=slurm needs submitit; install it with "
            "pip install -c constraints.txt --group slurm"
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
    """Turn the errors of submitit and SLURM into a `UserError`."""
    try:
        yield
    except (AssertionError, NameError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"train.launcher: submitit rejects the job: {error}") from None


def _follow(job: Any) -> None:
    """Show the first node's log until the job ends."""
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
    """Raise a `UserError` if a node failed.

    The process that knew the cause has written the message file.
    """
    try:
        job.results()
    # submitit raises its own exceptions and any exception that was raised on a node.
    except Exception as error:
        if message.exists():
            raise UserError(f"job {job.job_id}: {message.read_text()}") from None
        log = "\n".join((job.task(0).stderr() or "").splitlines()[-LOG_LINES:])
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"job {job.job_id} ended in state {job.state}: {reason}; "
            f"the last lines of its log:\n{log}"
        ) from None
