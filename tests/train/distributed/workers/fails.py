"""A worker with another training: process 1 ends in the way that `ENDS` names, process 0 waits.

`pid0` and `pid1` tell the test that a worker may be ended. All that the next attempt has to know is
on disk before. The module of the real training is never imported, because that takes seconds.
"""

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from stages.core.config.schema import parse
from stages.core.environment.processes import is_main
from stages.core.errors import UserError
from stages.core.storage.files import atomic_write
from stages.core.storage.summaries import write_summary
from stages.core.tracking.tracker import track
from stages.train.distributed import worker


def work(cfg):
    mark = Path(f"again{os.environ['RANK']}")
    again = mark.exists()
    mark.touch()
    atomic_write(Path(f"pid{os.environ['RANK']}"), str(os.getpid()).encode())
    if os.environ["ENDS"] == "tracked":
        with track(parse(cfg.config), "train") as tracker:
            tracker.log({"loss": int(os.environ["RANK"])}, 1)
            if is_main():
                write_summary("train", {"rank": int(os.environ["RANK"])})
                tracker.log_summary({"rank": int(os.environ["RANK"])})
        return
    while not Path("pid0").exists():
        time.sleep(0.01)
    if os.environ["RANK"] == "1":
        match os.environ["ENDS"]:
            case "mistake":
                raise UserError("the loss is nan at step 7")
            case "defect":
                raise RuntimeError("broken")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
    if os.environ["ENDS"] == "well" or (os.environ["ENDS"] == "at the second attempt" and again):
        return
    time.sleep(600)
    raise TimeoutError("nobody ended this worker")


sys.modules["stages.train.run"] = SimpleNamespace(work=work)
worker.main()
