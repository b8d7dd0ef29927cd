"""Wrappers of stages and tools: configuration, one stage at a time, tracking and failures."""

import argparse
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import format_exception
from typing import Any

from omegaconf import DictConfig

from stages.core.config.schema import Config, parse
from stages.core.environment.processes import count_cores, count_queue_workers, end_with_dvc
from stages.core.errors import hide_secrets, printable
from stages.core.failures import failures_reported
from stages.core.storage.leftovers import remove_leftovers
from stages.core.storage.locks import one_at_a_time
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

LOCK = Path(".tuneproof/stage.lock")  # in the working folder, beside the outputs
# A stage that is killed ends within moments, and most stages of small data end in this time. After
# it a message is better than a terminal that seems to hang.
WAIT = 60.0
OUTPUTS = ("data", "models", "predictions", "reports", "metrics", "plots")

Recipe = Callable[[Config, Tracker], None]
Main = Callable[[DictConfig], None]


def stage_main(stage: str) -> Callable[[Recipe], Main]:
    """Turn a function `(config, tracker)` into the function that `@hydra.main` calls.

    The wrapper checks the configuration, waits until no other stage runs in the working folder and
    tracks the stage. If it fails, the process ends as `failures_reported` says.
    """

    def decorate(recipe: Recipe) -> Main:
        @functools.wraps(recipe)
        def tracked(cfg: DictConfig) -> None:
            config = parse(cfg)
            with one_stage_at_a_time(), track(config, stage) as tracker:
                recipe(config, tracker)

        return plain_main(stage)(tracked)

    return decorate


def plain_main(stage: str) -> Callable[[Main], Main]:
    """Wrap a function of the composed configuration as `stage_main` does, but without tracking.

    The function gets the configuration unchecked, and other stages may run beside it.
    """

    def decorate(recipe: Main) -> Main:
        @functools.wraps(recipe)
        def main(cfg: DictConfig) -> None:
            with failures_reported(stage):
                set_up_process()
                end_with_dvc(stage)
                recipe(cfg)

        return main

    return decorate


def tool_main(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Wrap the function of a tool. If it fails, the process ends as `failures_reported` says."""

    def decorate(tool: Callable[[], None]) -> Callable[[], None]:
        @functools.wraps(tool)
        def main() -> None:
            with failures_reported(name):
                tool()

        return main

    return decorate


def make_parser(module: str, text: str | None) -> argparse.ArgumentParser:
    """Create the parser of a tool, such as `tools.verify`, whose help shows a text as it is written."""
    return argparse.ArgumentParser(
        f"python -m {module}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@contextmanager
def one_stage_at_a_time() -> Iterator[None]:
    """Let no other stage run in the working folder during the block.

    A single lock covers all stages. A stage that reads files while another one replaces them would
    mix the rows of one run with the numbers of another, and DVC would record the wrong inputs,
    because it computes their hashes when a stage ends. What killed processes left in the folders of
    the outputs is removed.

    Raises:
        UserError: Another stage still runs after a minute.
    """
    advice = (
        "Two stages at once would mix their outputs. Wait until it has ended, or run an experiment "
        "in a copy: `dvc exp run --temp` or `dvc exp run --queue`."
    )
    with one_at_a_time(LOCK, f"The folder {Path.cwd()}", WAIT, advice):
        for folder in OUTPUTS:
            remove_leftovers(Path(folder))
        yield


def set_up_process() -> None:
    """Set up the logging and the environment of a process."""
    _set_up_logging()
    _set_up_threads()


def _set_up_threads() -> None:
    """Set what OpenMP and oneDNN read when torch is loaded. A setting of the user's own stays."""
    os.environ.setdefault(*PRIMITIVES)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(*SPINNING)
    if count_queue_workers() > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(count_cores()))


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
