"""What a training process says when it fails, and what the launching process makes of it."""

import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

MISTAKE = ".mistake"
DEFECT = ".defect"  # of the person, in one message; of Tuneproof or a library, with its traceback


def leave(folder: Path, kind: str, said: str) -> NoReturn:
    """Write the last words and end with status 1, without waiting for collectives of the other ranks."""
    words = folder / "words"
    words.mkdir(exist_ok=True)
    (words / f"{os.environ.get('RANK', '0')}{kind}").write_text(said)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(1)


def last_words(folder: Path, statuses: Mapping[int, int]) -> str:
    """What went wrong, of all that the workers left behind.

    When one of them has gone the others fail for want of it: so a mistake goes before a sudden end, that before a
    defect, and of each kind the earliest counts.

    Args:
        folder: of the workers.
        statuses: with which processes ended first; below zero the signal that ended one.
    """
    words = sorted((folder / "words").glob("*"), key=lambda path: path.stat().st_mtime_ns)
    mistakes = [path for path in words if path.suffix == MISTAKE]
    if mistakes:
        return mistakes[0].read_text()
    for rank, status in statuses.items():
        if status < 0 and -status != signal.SIGTERM:  # with which the launcher ends the others
            why = " (has the machine run out of memory?)" if -status == signal.SIGKILL else ""
            return f"training process {rank} was ended by {signal.Signals(-status).name}{why}; the others ended with it"
    defects = [path for path in words if path.suffix == DEFECT]
    if defects:
        last = defects[0].read_text().strip().splitlines()[-1]
        return f"training process {defects[0].stem} failed: {last}; its traceback stands above"
    rank, status = next(iter(statuses.items()))
    return f"training process {rank} ended with status {status} and left no message; see above"
