"""Checkpoints, from which a killed run goes on: where they are, which one counts, when one is made."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from transformers import TrainerCallback

from stages.core.config.schema import Config
from stages.core.environment.code import get_digests, list_code, list_other_code
from stages.core.environment.lineage import data_sha256, versions
from stages.core.environment.processes import is_main
from stages.core.environment.repository import repository_root
from stages.core.errors import UserError
from stages.core.storage.files import read_json, sha256_file, sha256_json, write_json

if TYPE_CHECKING:
    from stages.core.models.base_models import BaseModel
    from stages.train.monitoring.training_progress import Journal

log = logging.getLogger(__name__)
FOLDER = Path(".tuneproof/checkpoints")
OTHER_CODE = "other_code.json"
MARK = "complete.json"  # written last: a checkpoint without it was cut off


def get_key(config: Config, base: "BaseModel", seed: int) -> str:
    """Of everything on which the trained weights depend: no training resumes from checkpoints of another key.

    Of the code that is what `dvc.yaml` names for the stage, without its comments and docstrings.

    Args:
        config: with the section of this training as `train`.
        base: the model that is trained.
        seed: of training.
    """
    data = {split: digest for split, digest in data_sha256().items() if split != "test"}
    code = get_digests(list_code("train"))
    settings = config.train.get_effective()
    together = [
        os.environ.get("WORLD_SIZE", "1"),
        getattr(config.train.launcher, "config_file", None),
    ]
    replay = config.train.replay
    chats = Path(replay.source) if replay.share else None
    settings["chats"] = sha256_file(chats) if chats and chats.is_file() else None
    short = config.prompt.short_instruction
    model = config.model.model_dump()
    weights = [
        base.sha256,
        base.revision,
        base.path if base.sha256 is None and base.revision is None else None,
    ]
    return sha256_json(
        [config.seed, seed, data, short, model, weights, settings, versions(), code, together]
    )[:24]


@contextmanager
def hold(key: str) -> Iterator[Path]:
    """The folder of the checkpoints of a run, for this process alone.

    Raises:
        UserError: another process trains the very same now.
    """
    folder = repository_root() / FOLDER / key
    folder.mkdir(parents=True, exist_ok=True)
    if not is_main():  # the first process of them all holds it
        yield folder
        return
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"another process trains this configuration on these rows now ({folder})"
        ) from None
    try:
        _warn_of_other_code(folder)
        yield folder
    finally:
        lock.release()


def _warn_of_other_code(folder: Path) -> None:
    """Say which code changed since the checkpoints were made, on which no weight should depend, and take note of it."""
    noted = folder / OTHER_CODE
    now = get_digests(list_other_code("train"))
    if noted.exists() and find(folder):
        before = read_json(noted)
        changed = sorted(
            path for path in now.keys() | before.keys() if now.get(path) != before.get(path)
        )
        if changed:
            log.warning(
                "Changed since the last checkpoint, on which no weight should depend: %s.",
                ", ".join(changed),
            )
    write_json(noted, now)


def find(folder: Path) -> Path | None:
    """The last complete checkpoint in a folder, or None."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{MARK}")]
    return max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)


def go_on(checkpoint: Path, journal: "Journal") -> int:
    """Let the journal go on from a checkpoint; its step."""
    step = int(checkpoint.name.split("-")[1])
    journal.load(read_json(checkpoint / MARK), step)
    return step


class Checkpoints(TrainerCallback):
    """Asks for a checkpoint every few minutes, at steps that are logged anyway: no number hangs on the clock."""

    def __init__(self, minutes: float, agree: Any) -> None:
        """Take the time between two; `agree` lets the first process decide for all."""
        self._seconds = 60 * minutes
        self._agree = agree
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the clock."""
        if control.should_log and self._agree(time.monotonic() - self._last >= self._seconds):
            control.should_save = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log what is saved: the mean loss since the last log is in no checkpoint."""
        control.should_log |= control.should_save

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin to wait again."""
        self._last = time.monotonic()
