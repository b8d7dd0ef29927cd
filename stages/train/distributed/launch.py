"""Launch training in several processes, on this machine or as a SLURM job.

See docs/scaling.md for the commands.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from stages.core.config.adapter import needs_whole_weights
from stages.core.config.launcher import Accelerate, Single, Slurm
from stages.core.config.train import CLASSIFYING, TrainConfig
from stages.core.errors import UserError
from stages.core.models.candidates import Candidate
from stages.train.adapter import refuse_sharded
from stages.train.distributed.workers import run_workers, write_values

# These methods add a new head that is in no file of the base model. accelerate loses its weights if
# only the first process reads the weights.
NEW_HEAD = (*CLASSIFYING, "reward-model")
LOADING = "--fsdp_cpu_ram_efficient_loading"


def _check_quantized(launcher: Accelerate | Slurm) -> None:
    from stages.train.distributed.accelerate_args import find_config_file, get_distributed_type

    kind = get_distributed_type(find_config_file(launcher.config_file))
    if kind == "DEEPSPEED" or "--use_deepspeed" in launcher.args:
        raise UserError(
            "train.quantization: DeepSpeed cannot share quantized weights among the processes as "
            "Tuneproof loads them. Set train/launcher=ddp, which keeps the quantized model whole "
            "on each GPU, or train/launcher=fsdp with "
            "+train.quantization.bnb_4bit_quant_storage=bfloat16, or train=lora with DeepSpeed."
        )


def _check_shared(train: TrainConfig, launcher: Accelerate | Slurm) -> None:
    """Refuse to share weights among processes where each of them needs a whole model."""
    from stages.train.distributed.accelerate_args import shares_weights

    whole = needs_whole_weights(train.adapter)
    if not (whole or train.teacher_model) or not shares_weights(launcher):
        return
    if whole:
        refuse_sharded(train.adapter)
    raise UserError(
        "train.teacher_model: this launcher shards the models that a process loads, and the teacher "
        "would be loaded in part; choose train/launcher=ddp or single"
    )


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
    if train.quantization is not None and not isinstance(launcher, Single):
        _check_quantized(launcher)
    if not isinstance(launcher, Single):
        _check_shared(train, launcher)
    if isinstance(launcher, Slurm):
        from stages.train.distributed.slurm import submit

        submit(launcher, values, runs)
    elif isinstance(launcher, Accelerate):
        with tempfile.TemporaryDirectory() as folder:
            write_values(values, Path(folder))
            run_workers(launcher, Path(folder), runs)
