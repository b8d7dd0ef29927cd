"""Training in several processes: which launcher starts them, on this machine or as a SLURM job.

docs/scaling.md has the commands.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from stages.core.config.train import CLASSIFYING, Accelerate, Single, Slurm
from stages.core.models.candidates import Candidate
from stages.train.distributed.workers import run_workers, write_values

# A head that no file has: accelerate loses it where the first process alone reads the weights.
NEW_HEAD = (*CLASSIFYING, "reward")
LOADING = "--fsdp_cpu_ram_efficient_loading"


def launch(candidate: Candidate, seed: int, runs: Sequence[str] = ()) -> None:
    """Train in the processes that `train.launcher` asks for, and wait for them.

    Args:
        candidate: whose launcher is not `single`.
        seed: of training.
        runs: MLflow runs of the stage that the first process logs to.

    Raises:
        UserError: the launcher's values do not fit together or this machine, or a worker failed.
    """
    train = candidate.config.train
    launcher = train.launcher
    values = {"config": candidate.run.model_dump(by_alias=True), "seed": seed}
    if train.method in NEW_HEAD and not isinstance(launcher, Single):
        launcher = launcher.model_copy(update={"args": [f"{LOADING}=false", *launcher.args]})
    if isinstance(launcher, Slurm):
        from stages.train.distributed.slurm import submit

        submit(launcher, values, runs)
    elif isinstance(launcher, Accelerate):
        with tempfile.TemporaryDirectory() as folder:
            write_values(values, Path(folder))
            run_workers(launcher, Path(folder), runs)
