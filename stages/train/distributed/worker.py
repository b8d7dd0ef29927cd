"""Run the stage `train` as one of several training processes.

The launcher starts this module once for each rank:

    python -m stages.train.distributed.worker <folder>

The folder holds `values.yaml` with the resolved configuration and the training seed. If a worker
fails, it writes its error to a file `words/<rank>.<kind>` there, because all workers share the
terminal. The launching process turns these files into one message.
"""

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from omegaconf import OmegaConf

from stages.core.entrypoint import set_up_process
from stages.core.environment.processes import is_main
from stages.core.errors import UserError
from stages.core.failures import explain_system, report_defect
from stages.train.distributed.failures import DEFECT, MISTAKE, leave
from stages.train.distributed.workers import VALUES


def main() -> None:
    """Train in this worker process and write an error file if training fails."""
    folder = Path(sys.argv[1])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    # SLURM sends its warning signal to all processes of a job. Only submitit's process handles it.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if not is_main():
        logging.disable(logging.WARNING)
    try:
        from stages.train.run import work

        set_up_process()
        work(OmegaConf.load(folder / VALUES))  # type: ignore[arg-type]
    except UserError as error:
        leave(folder, MISTAKE, str(error))
    # A signal ends this process.
    except SystemExit:
        raise
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except Exception as error:
        if mistake := explain_system(error):
            leave(folder, MISTAKE, str(mistake))
        leave(folder, DEFECT, report_defect("train", error))


def _end_with(parent: int) -> None:
    """Exit when the launching process ends.

    Nothing else would end this process if the launching process is killed.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()
