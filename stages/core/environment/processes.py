"""The role of this process among several training processes.

Everything except training runs in a single process, which is the main one.
`stages.train.distributed.launch` starts the workers, and accelerate's launcher gives each its
number in `RANK`.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.environment.repository import repository_root

if TYPE_CHECKING:
    import psutil

# Environment variable of a worker: the folder with its configuration and its last message.
WORKER = "TUNEPROOF_WORKER"
# Environment variable of a worker: the MLflow runs of the stage, which the launching process
# opened.
RUNS = "TUNEPROOF_RUNS"
# accelerate sets these to `true` in the workers that it starts if they share the weights.
SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
TERMINATED = 128 + signal.SIGTERM  # the exit status of a process that SIGTERM has ended
SECOND = 1  # between two looks at whether DVC still runs, or a file is there
WORKER_COMMAND = "queue-worker"  # of dvc exp; the name of the worker follows


def is_worker() -> bool:
    """Return whether another process of Tuneproof launched this one to train.

    A worker launches no workers of its own.
    """
    return WORKER in os.environ


def is_main() -> bool:
    """Return whether this process writes files, tracks and logs; all others only compute."""
    return not is_worker() or os.environ.get("RANK", "0") == "0"


def write_once(file: Path, write: Callable[[], None]) -> None:
    """Let the first process write a file that all of them read, and the others wait for it.

    If the first process fails, the launcher ends the waiting ones.

    Args:
        file: The file. If it exists, nothing is written.
        write: Writes the file, whole or not at all.
    """
    if is_main() and not file.exists():
        write()
    while not file.exists():
        time.sleep(SECOND)


def get_runs() -> list[str]:
    """Return the ids of the MLflow runs that the launching process opens and closes."""
    return os.environ.get(RUNS, "").split()


def is_sharded() -> bool:
    """Return whether each worker will hold only a part of the model."""
    return any(os.environ.get(variable, "").lower() == "true" for variable in SHARDING)


def count_cores() -> int:
    """Return how many cores this process may use, its share if workers of DVC's queue run side by
    side."""
    allowed = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    return max(1, len(allowed) // count_queue_workers())


def count_queue_workers() -> int:
    """Return how many workers of DVC's queue run on this machine, or 1 if no worker started this
    process."""
    if repository_root() == Path.cwd():  # a worker runs its stages in a copy
        return 1
    import psutil

    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    workers = [words for words in commands if WORKER_COMMAND in words]
    names = {words[words.index(WORKER_COMMAND) + 1] for words in workers}
    return max(1, len(names))


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Turn SIGTERM, with which schedulers end a job, into an exception.

    Otherwise the signal would end this process and leave its server or SLURM job running.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_with_dvc(stage: str) -> None:
    """End this process soon after the DVC process that started it.

    If DVC alone is killed, its stage would run on. Nobody would record its outputs, and it would
    write beside the stage that the next `dvc repro` starts.

    Args:
        stage: The stage. If another program calls its function, nothing happens.
    """
    if "DVC_STAGE" not in os.environ or f"stages.{stage}" not in sys.orig_argv:
        return
    import psutil

    # DVC starts a stage through a shell, which may run the stage in its own place.
    child = psutil.Process()
    parent = child.parent()
    while parent and any(f"stages.{stage}" in word for word in parent.cmdline()):
        child = parent
        parent = child.parent()
    if parent is None or (parent.pid == 1 and not any("dvc" in word for word in parent.cmdline())):
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        threading.Thread(target=_end_after, args=(child, parent.pid), daemon=True).start()


def _end_after(child: "psutil.Process", parent: int) -> None:
    """End this process when `child` has lost its parent, which is where a killed DVC shows."""
    from psutil import NoSuchProcess

    with suppress(NoSuchProcess):
        while child.ppid() == parent:
            time.sleep(SECOND)
    # Not `sys.exit`, so that what this process started is ended by its handler of the signal.
    os.kill(os.getpid(), signal.SIGTERM)
