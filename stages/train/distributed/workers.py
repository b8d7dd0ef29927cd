"""The training processes of this machine, started by accelerate's launcher.

Nothing distributed is written here: `accelerate launch` starts the workers (`stages.train.distributed.worker`) and ends
them all when one of them fails. It runs inside this process, so that a signal that ends us ends them, and so that a
failure is one message instead of the launcher's own report.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from stages.core.config.train import Accelerate, Slurm
from stages.core.environment.processes import RUNS, WORKER
from stages.core.errors import UserError
from stages.train.distributed.accelerate_args import ROOT, Node, get_flags
from stages.train.distributed.failures import last_words

VALUES = "values.yaml"
SECOND = 1  # to which the launcher knows when a process ended


def write_values(values: dict[str, Any], folder: Path) -> None:
    """Put the resolved configuration and the seed of training where every worker reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(values), folder / VALUES)


def run_workers(
    launcher: Accelerate | Slurm, folder: Path, runs: Sequence[str], node: Node | None = None
) -> None:
    """Run this machine's workers to their end.

    Args:
        launcher: processes, configuration file and flags.
        folder: with what `write_values` wrote.
        runs: MLflow runs of the stage.
        node: this machine's place, where several are used and the flags do not say so themselves.

    Raises:
        UserError: the values do not fit together or this machine, or a worker failed.
    """
    from accelerate.commands.launch import launch_command
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    flags = get_flags(launcher, folder, node)
    if node is None or node.rank == 0:  # of an attempt before a preemption
        shutil.rmtree(folder / "words", ignore_errors=True)
    with _environment(folder, runs), _own_signals_after(), _quiet():
        try:
            launch_command(flags)
        except ChildFailedError as error:
            first = min(failure.timestamp for failure in error.failures.values())
            early = {
                rank: f.exitcode
                for rank, f in error.failures.items()
                if f.timestamp <= first + SECOND
            }
            raise UserError(last_words(folder, early)) from None
        except (
            subprocess.CalledProcessError
        ) as error:  # where accelerate starts one process by itself
            raise UserError(last_words(folder, {0: error.returncode})) from None
        except SignalException as caught:
            if caught.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            sys.exit(128 + caught.sigval)
        except (ValueError, ConnectionError, ImportError) as error:
            raise UserError(f"train.launcher: accelerate does not start: {error}") from None


@contextmanager
def _environment(folder: Path, runs: Sequence[str]) -> Iterator[None]:
    """What the workers inherit; this process has it while they run."""
    import torch

    before = dict(os.environ)
    path = os.pathsep.join(filter(None, (str(ROOT), before.get("PYTHONPATH"))))
    os.environ |= {WORKER: str(folder.resolve()), RUNS: " ".join(runs), "PYTHONPATH": path}
    if not torch.cuda.is_available():
        os.environ["ACCELERATE_USE_CPU"] = (
            "true"  # gloo; accelerate's own --cpu would start one process alone
        )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _own_signals_after() -> Iterator[None]:
    """The launcher of torch takes these signals to end its workers, and keeps them."""
    taken = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """The launchers log how they end the others, over the message that tells why."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
