"""Run the training processes of this machine with accelerate's launcher.

`accelerate launch` starts the workers (`stages.train.distributed.worker`) and ends all of them if
one fails. It runs inside this process for two reasons. A signal that ends this process also ends
the workers, and a failure gives one message instead of the launcher's own report.
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

from stages.core.config.launcher import Accelerate, Slurm
from stages.core.environment.processes import RUNS, WORKER
from stages.core.errors import UserError
from stages.train.distributed.accelerate_args import ROOT, Node, get_flags
from stages.train.distributed.failures import last_words

VALUES = "values.yaml"
SECOND = 1  # The launcher records the time at which a process ended in whole seconds.


def write_values(values: dict[str, Any], folder: Path) -> None:
    """Write the resolved configuration and the training seed to the file that workers read."""
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(values), folder / VALUES)


def run_workers(
    launcher: Accelerate | Slurm, folder: Path, runs: Sequence[str], node: Node | None = None
) -> None:
    """Run this machine's workers until they end.

    Args:
        launcher: The number of processes, the configuration file and the flags.
        folder: The folder with the file that `write_values` wrote.
        runs: The MLflow runs of the stage.
        node: This machine's place if several machines are used and the flags do not give it.

    Raises:
        UserError: If the settings conflict with each other or with this machine, or if a worker
            fails.
    """
    from accelerate.commands.launch import launch_command
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    flags = get_flags(launcher, folder, node)
    # Remove the error files of an attempt before a preemption.
    if node is None or node.rank == 0:
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
        # accelerate starts a single process with `subprocess`.
        except subprocess.CalledProcessError as error:
            raise UserError(last_words(folder, {0: error.returncode})) from None
        except SignalException as caught:
            if caught.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            sys.exit(128 + caught.sigval)
        except (ValueError, ConnectionError, ImportError) as error:
            raise UserError(f"train.launcher: accelerate failed to start: {error}") from None


@contextmanager
def _environment(folder: Path, runs: Sequence[str]) -> Iterator[None]:
    """Set the environment variables that the workers inherit, and restore them afterwards."""
    import torch

    before = dict(os.environ)
    path = os.pathsep.join(filter(None, (str(ROOT), before.get("PYTHONPATH"))))
    os.environ |= {WORKER: str(folder.resolve()), RUNS: " ".join(runs), "PYTHONPATH": path}
    if not torch.cuda.is_available():
        # This selects gloo. accelerate's own flag --cpu would start only one process.
        os.environ["ACCELERATE_USE_CPU"] = "true"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _own_signals_after() -> Iterator[None]:
    """Restore the signal handlers that torch's launcher replaces and does not restore."""
    taken = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the launchers, whose logs about ending workers would bury the error message."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
