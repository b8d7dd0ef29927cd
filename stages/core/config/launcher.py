"""The launchers of training: how many processes train, and what starts them."""

from typing import Any, Literal

from stages.core.config.base import Count, Name, Section


class Single(Section):
    """One process, on one GPU if there is one."""

    kind: Literal["single"]


class Accelerate(Section):
    """Several processes that `accelerate launch` starts.

    They run on this machine, or on several machines with its own flags.
    """

    kind: Literal["accelerate"]
    num_processes: Count
    """The number of processes on this machine."""
    config_file: Name | None
    """A configuration file of accelerate, such as those in `stages/train/distributed/accelerate`.
    Null uses the one for DDP."""
    args: list[str]
    """More flags of `accelerate launch`."""


class Slurm(Section):
    """Several processes in a SLURM job, which submitit submits.

    The job has one task per node, and this process waits for it.
    """

    kind: Literal["slurm"]
    cluster: Literal["slurm", "local"]
    """`local` runs the job on this machine, as a trial."""
    nodes: Count
    """The number of nodes."""
    num_processes: Count
    """How many processes train on this machine, or on each node of a SLURM job."""
    config_file: Name | None
    """A configuration file of accelerate, such as those in `stages/train/distributed/accelerate`.
    Null uses the one for DDP."""
    args: list[str]
    """Further flags of `accelerate launch`."""
    folder: Name
    """The folder for the script and the logs of the job. Every node must have access to it."""
    minutes: Count
    """The time limit of the job, in minutes."""
    parameters: dict[str, Any]
    """More parameters of submitit's executor, such as `slurm_partition` and `gpus_per_node`."""
