"""Wrappers of the stages that check the configuration, track the run and report user errors."""

import errno
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import format_exception
from typing import Any

from omegaconf import DictConfig

from stages.core.config.schema import Config, parse
from stages.core.environment.processes import count_cores, count_queue_workers
from stages.core.errors import UserError, hide_secrets, printable
from stages.core.tracking.tracker import Tracker, track

# Each batch of text has a new shape, and oneDNN caches a primitive for every shape. A thousand of
# them grew a training process from 3.0 to 4.1 GB. 64 primitives cover some five batches. oneDNN
# reads the variable when it computes the first product.
PRIMITIVES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
# A thread that waits for another spins for a moment and then sleeps. OpenMP's default is a hundred
# times longer, in which a thread that shares its core only keeps the others from working. Tokens/s
# of eight training steps on two cores, alone and as one of two trainings side by side: default 386
# to 425 and 98, 3,000 spins 418 and 150, 1,000 spins 355 and 201, no spins 310 and 244. So this
# costs nothing alone.
SPINNING = ("GOMP_SPINCOUNT", "3000")

Recipe = Callable[[Config, Tracker], None]
Main = Callable[[DictConfig], None]


def stage_main(stage: str) -> Callable[[Recipe], Main]:
    """Turn a function `(config, tracker)` into the function that `@hydra.main` calls.

    The wrapper checks the configuration and tracks the stage. A `UserError` or a full disk ends the
    process with status 1 and one message on standard error.
    """

    def decorate(recipe: Recipe) -> Main:
        @functools.wraps(recipe)
        def tracked(cfg: DictConfig) -> None:
            config = parse(cfg)
            with track(config, stage) as tracker:
                recipe(config, tracker)

        return plain_main(stage)(tracked)

    return decorate


def plain_main(stage: str) -> Callable[[Main], Main]:
    """Wrap a function of the composed configuration as `stage_main` does, but without tracking.

    The function gets the configuration unchecked.
    """

    def decorate(recipe: Main) -> Main:
        @functools.wraps(recipe)
        def main(cfg: DictConfig) -> None:
            try:
                with set_up_process():
                    recipe(cfg)
            except UserError as error:
                sys.exit(printable(f"\n{stage}: {hide_secrets(str(error))}"))

        return main

    return decorate


@contextmanager
def set_up_process() -> Iterator[None]:
    """Set up logging and the environment of a process, and turn a full disk into a `UserError`."""
    _set_up_logging()
    _set_up_threads()
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not _disk_is_full(error):
            raise
        raise UserError(
            f"no space left on the disk ({error}). No file is half-written: free some space and "
            "run the command again."
        ) from None


def _set_up_threads() -> None:
    """Set what OpenMP and oneDNN read when torch is loaded. A setting of the user's own stays."""
    os.environ.setdefault(*PRIMITIVES)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(*SPINNING)
    if count_queue_workers() > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(count_cores()))


def _disk_is_full(error: Exception) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # safetensors and torch wrap the error of the operating system.
    return full or "No space left on device" in str(error)


class _Record(logging.LogRecord):
    """A log record without secrets and without controls of the terminal.

    Every handler shows it so, also if a library logs the address of a server or the text of a row.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[0]:
            # A formatter takes this text instead of the traceback.
            trace = "".join(format_exception(*self.exc_info)).rstrip()
            self.exc_text = printable(hide_secrets(trace))

    def getMessage(self) -> str:  # noqa: N802 - the name is that of `logging`
        """Return the message with its arguments, escaped and without secrets."""
        return printable(hide_secrets(super().getMessage()))


def _set_up_logging() -> None:
    logging.setLogRecordFactory(_Record)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    for name in ("stages", "__main__"):
        logging.getLogger(name).setLevel(logging.INFO)
    # It warns about settings that Tuneproof chooses on purpose.
    logging.getLogger("mlflow.transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
