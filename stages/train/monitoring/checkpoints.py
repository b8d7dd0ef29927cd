"""Store checkpoints, choose the one to resume from and decide when to save the next one."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from stages.core.config.schema import Config
from stages.core.config.train_options import RewardModel
from stages.core.data.chat_files import list_chat_files
from stages.core.environment.code import get_digests, list_code, list_other_code
from stages.core.environment.lineage import data_sha256, versions
from stages.core.environment.processes import is_main
from stages.core.environment.repository import repository_root
from stages.core.models.adapters import get_init_adapter
from stages.core.models.loading import hash_model
from stages.core.models.teachers import identify_teacher
from stages.core.storage.files import read_json, sha256_file, sha256_json, write_json
from stages.core.storage.locks import one_at_a_time

if TYPE_CHECKING:
    from stages.core.models.base_models import ModelFiles
    from stages.train.monitoring.training_progress import TrainingProgress

log = logging.getLogger(__name__)
FOLDER = Path(".tuneproof/checkpoints")
OTHER_CODE = "other_code.json"
# This file is written last. A checkpoint without it is incomplete.
COMPLETE_MARKER = "complete.json"


def training_fingerprint(config: Config, base: "ModelFiles", seed: int) -> str:
    """Compute the fingerprint of everything that the trained weights depend on.

    Training resumes only from checkpoints with the same fingerprint. The fingerprint covers the
    code that `dvc.yaml` names for the stage, without comments and docstrings.

    Args:
        config: The configuration, with the section of this training as `train`.
        base: The base model.
        seed: The training seed.
    """
    data = {split: digest for split, digest in data_sha256().items() if split != "test"}
    code = get_digests(list_code("train"))
    settings = config.train.get_effective()
    together = [
        os.environ.get("WORLD_SIZE", "1"),
        getattr(config.train.launcher, "config_file", None),
    ]
    replay = config.train.replay
    chats = list_chat_files(replay.source) if replay.fraction else {}
    settings["chats"] = {name: sha256_file(path) for name, path in chats.items()}
    judges = {
        reward.folder
        for reward in config.train.grpo_rewards.values()
        if isinstance(reward, RewardModel) and Path(reward.folder).is_dir()
    }
    settings["reward_models"] = {folder: hash_model(Path(folder)) for folder in sorted(judges)}
    start = get_init_adapter(config.train.init_adapter)
    settings["adapter_sha256"] = start.sha256 if start else None
    teacher = config.train.teacher_model
    settings["teacher_files"] = identify_teacher(teacher) if teacher else None
    short = config.prompt.tuned_system_prompt
    model = config.model.model_dump(exclude={"chat_template", "dvc_dependency"})
    weights = [
        base.sha256,
        base.revision,
        base.path if base.sha256 is None and base.revision is None else None,
    ]
    return sha256_json(
        [
            config.seed,
            seed,
            data,
            short,
            model,
            base.chat_template,
            weights,
            settings,
            versions(),
            code,
            together,
        ]
    )[:24]


@contextmanager
def lock_run_folder(key: str) -> Iterator[Path]:
    """Lock the checkpoint folder of a run for this training and yield it.

    Raises:
        UserError: If another process is training this configuration on this data.
    """
    folder = repository_root() / FOLDER / key
    folder.mkdir(parents=True, exist_ok=True)
    # Only the first process of a training holds the lock.
    if not is_main():
        yield folder
        return
    what = f"The training of this configuration on this data ({folder})"
    with one_at_a_time(folder.with_suffix(".lock"), what, 0, "Wait until it has ended."):
        _warn_of_other_code(folder)
        yield folder


def _warn_of_other_code(folder: Path) -> None:
    """Warn about changes of code that the weights should not depend on, and record its state.

    The warning lists the files that changed since the last checkpoint.
    """
    noted = folder / OTHER_CODE
    now = get_digests(list_other_code("train"))
    if noted.exists() and latest_checkpoint(folder):
        before = read_json(noted)
        changed = sorted(
            path for path in now.keys() | before.keys() if now.get(path) != before.get(path)
        )
        if changed:
            log.warning(
                "Code changed since the last checkpoint, but the weights should not depend on it: "
                "%s.",
                ", ".join(changed),
            )
    write_json(noted, now)


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the last complete checkpoint in a folder, or None if there is none."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE_MARKER}")]
    return max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)


def resume(checkpoint: Path, progress: "TrainingProgress") -> int:
    """Load the progress from a checkpoint and return the step of the checkpoint."""
    step = int(checkpoint.name.split("-")[1])
    progress.load(read_json(checkpoint / COMPLETE_MARKER), step)
    return step


class Checkpoints(TrainerCallback):
    """Request a checkpoint every few minutes.

    The callback waits for a step that is logged anyway, so no number depends on the clock.
    """

    def __init__(self, minutes: float, any_process: Any) -> None:
        """Set the interval.

        Args:
            minutes: The time between two checkpoints.
            any_process: A function that returns whether the condition is true in any process.
        """
        self._seconds = 60 * minutes
        self._any_process = any_process
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Request a checkpoint if the interval has passed and this step is logged."""
        if control.should_log and self._any_process(time.monotonic() - self._last >= self._seconds):
            control.should_save = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log before saving, because no checkpoint contains the mean loss since the last log."""
        control.should_log |= control.should_save

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Restart the interval."""
        self._last = time.monotonic()
