"""A worker with another training: process 1 ends in the way that `ENDS` names, process 0 waits."""

import os
import signal
import time
from pathlib import Path

from stages.core.config.schema import parse
from stages.core.environment.processes import is_main
from stages.core.errors import UserError
from stages.core.storage.summaries import write_summary
from stages.core.tracking.tracker import track
from stages.train import run
from stages.train.distributed import worker


def work(cfg):
    Path(f"pid{os.environ['RANK']}").write_text(str(os.getpid()))
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
    mark = Path(f"again{os.environ['RANK']}")
    again = mark.exists()
    mark.touch()
    if os.environ["ENDS"] != "well" and not (
        os.environ["ENDS"] == "at the second attempt" and again
    ):
        time.sleep(600)


run.work = work
worker.main()
