"""One of several training processes: the stage `train` again, in a process of its own.

    python -m stages.train.distributed.worker <folder>      # started once for each rank

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
from pathlib import Path

from omegaconf import OmegaConf

from stages.core.entrypoint import set_up_process
from stages.core.environment.processes import is_main
from stages.core.errors import UserError
from stages.train.distributed.failures import DEFECT, MISTAKE, leave
from stages.train.distributed.workers import VALUES


def main() -> None:
    """Train as the main process does, and leave a word behind when it fails."""
    folder = Path(sys.argv[1])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    signal.signal(
        signal.SIGUSR2, signal.SIG_IGN
    )  # SLURM's warning to a job goes to all its processes; one answers
    if not is_main():
        logging.disable(logging.WARNING)
    try:
        from stages.train.run import work

        with set_up_process():
            work(OmegaConf.load(folder / VALUES))  # type: ignore[arg-type]
    except UserError as error:
        leave(folder, MISTAKE, str(error))
    except SystemExit:  # a signal that ends us
        raise
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except BaseException:
        said = traceback.format_exc()
        sys.stderr.write(said)
        leave(folder, DEFECT, said)


def _end_with(parent: int) -> None:
    """End when the launching process has ended, even if it was killed: nobody else would end us."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()
