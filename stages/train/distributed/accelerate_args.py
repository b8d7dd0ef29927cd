"""What `accelerate launch` is told, read by its own parser, and whether this machine has the devices for it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.config.train import Accelerate, Slurm
from stages.core.errors import UserError

if TYPE_CHECKING:
    from argparse import Namespace

ROOT = Path(__file__).resolve().parents[3]
MODULE = "stages.train.distributed.worker"
SHARDED = {
    "FSDP",
    "DEEPSPEED",
    "MEGATRON_LM",
}  # of accelerate's types: what has no meaning on a CPU


@dataclass(frozen=True, slots=True)
class Node:
    """This machine's place among several."""

    rank: int
    count: int
    first_host: str
    port: int

    @property
    def flags(self) -> list[str]:
        """Of `accelerate launch`."""
        machines = ["--num_machines", str(self.count), "--machine_rank", str(self.rank)]
        return [
            *machines,
            "--main_process_ip",
            self.first_host,
            "--main_process_port",
            str(self.port),
        ]


def get_flags(launcher: Accelerate | Slurm, folder: Path, node: Node | None = None) -> "Namespace":
    """The flags of `accelerate launch`, read by its own parser.

    Raises:
        UserError: accelerate does not know a flag or a key, or the machine has not the devices for it.
    """
    from accelerate.commands.launch import launch_command_parser

    parser = launch_command_parser()
    own = ["--config_file", str(_config_file(launcher.config_file))]
    own += ["--num_cpu_threads_per_process", str(max(1, _cores() // launcher.processes))]
    own += node.flags if node else ["--main_process_port", "0"]
    try:
        flags = parser.parse_args([*own, *launcher.args, "--module", MODULE, str(folder.resolve())])
    except SystemExit:
        raise UserError(
            f"train.launcher.args: `accelerate launch` does not take {launcher.args}; see above"
        ) from None
    flags.num_processes = launcher.processes * (flags.num_machines or 1)
    _check_devices(launcher, flags)
    return flags


def _config_file(name: str | None) -> Path:
    """As given from the current folder, else from the repository; without one, plain data parallelism. A configuration
    that `accelerate config` left in the person's home has no say: the run would not be this one elsewhere."""
    found = Path(name) if name else ROOT / "stages/train/distributed/accelerate/ddp.yaml"
    for path in (found, ROOT / found):
        if path.is_file():
            return path.resolve()
    raise UserError(
        f"train.launcher.config_file: {name} is not there, neither from here nor from {ROOT}"
    )


def _check_devices(launcher: Accelerate | Slurm, flags: "Namespace") -> None:
    import torch
    from accelerate.commands.config.config_args import load_config_from_file

    try:
        kind = load_config_from_file(flags.config_file).distributed_type.value
    except (ValueError, TypeError) as error:
        raise UserError(
            f"train.launcher.config_file: accelerate does not take it: {error}"
        ) from None
    gpus = torch.cuda.device_count()
    if gpus and launcher.processes > gpus:
        raise UserError(
            f"train.launcher.processes={launcher.processes}: this machine has {gpus} GPU(s)"
        )
    sharded = kind in SHARDED or flags.use_fsdp or flags.use_deepspeed
    if sharded and not gpus:
        raise UserError(
            f"train.launcher: {kind} needs GPUs, and this machine has none. accelerate would train with plain data "
            "parallelism and say nothing; take launcher=ddp for that."
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
