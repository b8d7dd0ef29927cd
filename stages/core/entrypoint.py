"""What every stage does around its work: check the configuration, track, and put a person's mistake in one message."""

import errno
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from stages.core.config.schema import Config, parse
from stages.core.errors import UserError
from stages.core.tracking.tracker import Tracker, track

# Batches of text have a new shape each, and oneDNN keeps what it made for a shape: a thousand of those grew a training
# from 3.0 to 4.1 GB. Read when the first product is computed; so many are those of some five batches.
PRIMITIVES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

Recipe = Callable[[Config, Tracker], None]
Main = Callable[[DictConfig], None]


def stage_main(stage: str) -> Callable[[Recipe], Main]:
    """Turn a function `(config, tracker)` into the one that `@hydra.main` calls, with the configuration checked.

    A `UserError` or a full disk ends the process with status 1 and one message on standard error.
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
    """The same for a function that takes the composed configuration as it is and is not tracked."""

    def decorate(recipe: Main) -> Main:
        @functools.wraps(recipe)
        def main(cfg: DictConfig) -> None:
            try:
                with set_up_process():
                    recipe(cfg)
            except UserError as error:
                sys.exit(f"\n{stage}: {error}")

        return main

    return decorate


@contextmanager
def set_up_process() -> Iterator[None]:
    """Set up what every process of a stage needs, and turn a full disk into a `UserError`."""
    _set_up_logging()
    os.environ.setdefault(*PRIMITIVES)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not _disk_is_full(error):
            raise
        raise UserError(
            f"no space left on the disk ({error}). Nothing is half-written: free some, run again."
        ) from None


def _disk_is_full(error: Exception) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(
        error
    )  # safetensors and torch wrap the operating system's error


def _set_up_logging() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    for name in ("stages", "__main__"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("mlflow.transformers").setLevel(logging.ERROR)  # it warns of what is meant so
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
