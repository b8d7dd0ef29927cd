"""One of several training processes: the stage `train` again, in a process of its own.

    python -m stages.train.worker <folder>      # as `stages.train.launch` starts it, once for each rank

The folder holds `values.yaml`, the resolved configuration and the seed of this training. What a worker has to say at
its end goes into `words/<rank>` there, because the terminal belongs to all of them: the launching
process makes one message of it.
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from omegaconf import OmegaConf

from stages.core.environment.processes import is_main

VALUES = "values.yaml"
MISTAKE, DEFECT = ".mistake", ".defect"  # of the person, in one message; of Tuneproof or a library, with its traceback


def main() -> None:
    """Train as the main process does, and leave a word behind when it fails."""
    folder = Path(sys.argv[1])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM's warning to a job goes to all its processes; one answers
    if not is_main():
        logging.disable(logging.WARNING)
    try:
        from stages.train.run import work

        work(OmegaConf.load(folder / VALUES))  # type: ignore[arg-type]
    except SystemExit as stop:  # the door's one message, or a signal that ends us
        if isinstance(stop.code, str):
            leave(folder, MISTAKE, stop.code.strip().removeprefix("train: "))
        raise
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except BaseException:
        said = traceback.format_exc()
        sys.stderr.write(said)
        leave(folder, DEFECT, said)


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


def _end_with(parent: int) -> None:
    """End when the launching process has ended, even if it was killed: nobody else would end us."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()
