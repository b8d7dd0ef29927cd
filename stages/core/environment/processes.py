"""Which of several training processes this one is. All else of Tuneproof runs in one process, which is the main one.

`stages.train.distributed.launch` starts the others; accelerate's launcher gives each its number in `RANK`.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WORKER = "TUNEPROOF_WORKER"  # in a worker's environment: the folder with its configuration and its last words
RUNS = "TUNEPROOF_RUNS"  # the MLflow runs of the stage, opened by the process that launched the workers


def is_worker() -> bool:
    """Whether another process of Tuneproof launched this one to train: it does not launch again."""
    return WORKER in os.environ


def is_main() -> bool:
    """Whether this process is the one that writes files, tracks and talks; all the others only compute."""
    return not is_worker() or os.environ.get("RANK", "0") == "0"


def get_runs() -> list[str]:
    """The ids of the MLflow runs that the launching process has opened for this worker; it closes them too."""
    return os.environ.get(RUNS, "").split()


def is_sharded() -> bool:
    """Whether each worker will hold a part of the model only: accelerate says so to the workers that it starts."""
    return any(
        os.environ.get(f"ACCELERATE_USE_{kind}", "").lower() == "true"
        for kind in ("FSDP", "DEEPSPEED")
    )


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM, with which schedulers end a job, becomes an exception: else it would end us and leave the server."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
