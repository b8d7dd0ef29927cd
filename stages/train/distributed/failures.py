"""Pass the error of a training process to the launching process, which reports it."""

import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

MISTAKE = ".mistake"  # A user error, as one message.
DEFECT = ".defect"  # A bug in Tuneproof or in a library, whose traceback is in a log.


def leave(folder: Path, kind: str, said: str) -> NoReturn:
    """Write the error to a file and exit with status 1.

    The process exits at once and does not wait for collectives of the other ranks.

    Args:
        folder: The folder of the workers.
        kind: `MISTAKE` or `DEFECT`.
        said: The message.
    """
    words = folder / "words"
    words.mkdir(exist_ok=True)
    (words / f"{os.environ.get('RANK', '0')}{kind}").write_text(said)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(1)


def last_words(folder: Path, statuses: Mapping[int, int]) -> str:
    """Return the message about the error that caused the workers to fail.

    If one worker ends, the others fail because they depend on it. User errors therefore take
    precedence over signals, and signals over bugs. The earliest error of each kind counts.

    Args:
        folder: The folder of the workers.
        statuses: The exit statuses of the processes that ended first, by rank. A negative status is
            the negated number of the signal that killed the process.
    """
    words = sorted((folder / "words").glob("*"), key=lambda path: path.stat().st_mtime_ns)
    mistakes = [path for path in words if path.suffix == MISTAKE]
    if mistakes:
        return mistakes[0].read_text()
    for rank, status in statuses.items():
        # The launcher ends the other workers by SIGTERM.
        if status < 0 and -status != signal.SIGTERM:
            why = " (did the machine run out of memory?)" if -status == signal.SIGKILL else ""
            return (
                f"training process {rank} was killed by {signal.Signals(-status).name}{why}; "
                "the launcher stopped the other processes"
            )
    defects = [path for path in words if path.suffix == DEFECT]
    if defects:
        return f"training process {defects[0].stem}: {defects[0].read_text()}"
    rank, status = next(iter(statuses.items()))
    return (
        f"training process {rank} exited with status {status} without a message; "
        "see the output above"
    )
