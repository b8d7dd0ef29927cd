"""Launch training in several processes, on this machine or as a SLURM job.

See docs/scaling.md for the commands.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from stages.core.config.launcher import Accelerate, Single, Slurm
from stages.core.config.train import CLASSIFYING
from stages.core.models.candidates import Candidate
from stages.train.distributed.sharding import check_sharding
from stages.train.distributed.workers import run_workers, write_values

# These methods add a new head that is in no file of the base model. accelerate loses its weights if
# only the first process reads the weights.
NEW_HEAD = (*CLASSIFYING, "reward-model")
LOADING = "--fsdp_cpu_ram_efficient_loading"


def launch(candidate: Candidate, seed: int, runs: Sequence[str] = ()) -> None:
    """Train in the processes that `train.launcher` configures and wait for them.

    Args:
        candidate: The model to train. Its launcher is not `single`.
        seed: The training seed.
        runs: The MLflow runs of the stage, which the first process logs to.

    Raises:
        UserError: If the launcher's settings conflict with each other or with this machine, or if a
            worker fails.
    """
    train = candidate.config.train
    launcher = train.launcher
    values = {"config": candidate.run.model_dump(by_alias=True), "seed": seed}
    if train.method in NEW_HEAD and not isinstance(launcher, Single):
        launcher = launcher.model_copy(update={"args": [f"{LOADING}=false", *launcher.args]})
    check_sharding(train)
    if isinstance(launcher, Slurm):
        from stages.train.distributed.slurm import submit

        submit(launcher, values, runs)
    elif isinstance(launcher, Accelerate):
        with tempfile.TemporaryDirectory() as folder:
            write_values(values, Path(folder))
            run_workers(launcher, Path(folder), runs)
