"""Build the flags of `accelerate launch` and check that this machine has the devices for them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.config.launcher import Accelerate, Slurm
from stages.core.environment.processes import count_cores
from stages.core.errors import UserError

if TYPE_CHECKING:
    from argparse import Namespace

ROOT = Path(__file__).resolve().parents[3]
MODULE = "stages.train.distributed.worker"
SHARDED = {"--use_fsdp": "FSDP", "--use_deepspeed": "DEEPSPEED", "--use_megatron_lm": "MEGATRON_LM"}
"""The distributed types of accelerate that need GPUs, by the flag that chooses them."""


@dataclass(frozen=True, slots=True)
class Node:
    """This machine's place among several machines."""

    rank: int
    count: int
    first_host: str
    port: int

    @property
    def flags(self) -> list[str]:
        """Return the flags of `accelerate launch` that describe this node."""
        machines = ["--num_machines", str(self.count), "--machine_rank", str(self.rank)]
        return [
            *machines,
            "--main_process_ip",
            self.first_host,
            "--main_process_port",
            str(self.port),
        ]


def get_flags(launcher: Accelerate | Slurm, folder: Path, node: Node | None = None) -> "Namespace":
    """Build the flags of `accelerate launch` and parse them with its own parser.

    Raises:
        UserError: If accelerate does not know a flag or a key, or if this machine lacks the
            devices.
    """
    from accelerate.commands.launch import launch_command_parser

    parser = launch_command_parser()
    own = ["--config_file", str(find_config_file(launcher.config_file))]
    own += ["--num_cpu_threads_per_process", str(max(1, count_cores() // launcher.num_processes))]
    own += node.flags if node else ["--main_process_port", "0"]
    try:
        flags = parser.parse_args([*own, *launcher.args, "--module", MODULE, str(folder.resolve())])
    except SystemExit:
        raise UserError(
            f"train.launcher.args: `accelerate launch` rejects {launcher.args}; "
            "its own message above says why"
        ) from None
    flags.num_processes = launcher.num_processes * (flags.num_machines or 1)
    _check_devices(launcher)
    return flags


def find_config_file(name: str | None) -> Path:
    """Find the configuration file in the current folder or else in the repository.

    Without a name, use plain data parallelism. The file that `accelerate config` writes to the home
    folder is ignored, because the run could not be reproduced on another machine.
    """
    found = Path(name) if name else ROOT / "stages/train/distributed/accelerate/ddp.yaml"
    for path in (found, ROOT / found):
        if path.is_file():
            return path.resolve()
    raise UserError(
        f"train.launcher.config_file: {name} not found in the current folder or in {ROOT}"
    )


def get_distributed_type(launcher: Accelerate | Slurm) -> str:
    """Return accelerate's distributed type, such as `FSDP`, of the flags or else of their file.

    Raises:
        UserError: If accelerate rejects the file.
    """
    from accelerate.commands.config.config_args import load_config_from_file

    # accelerate takes `-` for `_` in the names of flags.
    given = {f"--{argument[2:].replace('-', '_')}" for argument in launcher.args}
    chosen = [kind for flag, kind in SHARDED.items() if flag in given]
    if chosen:
        return chosen[0]
    try:
        found = load_config_from_file(str(find_config_file(launcher.config_file))).distributed_type
    except (ValueError, TypeError) as error:
        raise UserError(
            f"train.launcher.config_file: accelerate rejects this file: {error}"
        ) from None
    return str(found.value)


def shares_weights(launcher: Accelerate | Slurm) -> bool:
    """Return whether each process has only a part of the weights."""
    return get_distributed_type(launcher) in SHARDED.values()


def _check_devices(launcher: Accelerate | Slurm) -> None:
    import torch

    gpus = torch.cuda.device_count()
    if gpus and launcher.num_processes > gpus:
        raise UserError(
            f"train.launcher.num_processes={launcher.num_processes}: this machine has only {gpus} "
            "GPU(s); use at most one process per GPU"
        )
    kind = get_distributed_type(launcher)
    if kind in SHARDED.values() and not gpus:
        raise UserError(
            f"train.launcher: {kind} needs GPUs, and this machine has none. accelerate would "
            "silently use plain data parallelism instead. Set train/launcher=ddp if you want that."
        )
