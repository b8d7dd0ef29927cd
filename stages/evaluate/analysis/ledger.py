"""Keep the ledger of looks at test rows in `data/test_looks`.

The ledger has a folder for each test split and in it one small file for each look. It is committed
and lives at the root of the original repository, even if a queued or temporary experiment runs in
a copy. Each look has a file of its own for two reasons. `dvc exp apply` resets every tracked file
to its content when the experiment was queued, but does not touch files that the experiment does
not know. Two branches can also merge without a conflict.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import orjson

from stages.core.config.schema import Config
from stages.core.data.looks import get_look_folder, get_look_name
from stages.core.environment.repository import git_commit, repository_root
from stages.core.errors import UserError
from stages.core.storage.files import write_json
from stages.core.storage.locks import one_at_a_time
from stages.core.tracking.tracker import Tracker

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Look:
    """Record that one model was judged by one metric on one test split.

    A look has no date, so that the same work gives the same bytes.
    """

    place: int
    """The position among the models judged on these rows, counted from 1."""
    test_sha256: str
    model_sha256: str
    metric: str
    value: float
    """The value of the metric."""
    data: str
    """The name of the data set."""
    git_commit: str
    """The commit of the first time that this look was taken."""

    @property
    def key(self) -> Key:
        """Get what makes this look distinct.

        Judging the same weights again by the same metric is not a new look.
        """
        return self.test_sha256, self.model_sha256, self.metric


def enter_looks(
    config: Config, tracker: Tracker, test_sha256: str, values: Mapping[str, float]
) -> tuple[int, list[Look]]:
    """Add the looks at these models, and those that only MLflow knows, to the ledger.

    Args:
        config: The configuration, which has the metric and the name of the data set.
        tracker: The tracker that reads the looks from MLflow.
        test_sha256: The SHA-256 of the test split.
        values: The primary metric of each model, by the SHA-256 of its weights.

    Returns:
        The number of looks at this split, and the looks at these models.

    Raises:
        UserError: A file of the ledger is not a valid look, or the ledger cannot be written.
    """
    folder = get_look_folder(repository_root(), test_sha256)
    with _lock(folder):
        known: dict[Key, Look] = {}
        for look in [*_read_files(folder), *_read_mlflow(tracker, test_sha256)]:
            known.setdefault(look.key, look)
        ours = []
        for model_sha256, value in values.items():
            place = max([len(known), *(look.place for look in known.values())]) + 1
            facts = (config.evaluate.primary_metric, value, config.data.name, git_commit())
            new = Look(place, test_sha256, model_sha256, *facts)
            ours.append(known.setdefault(new.key, new))
        for look in known.values():
            path = folder / get_look_name(look.place, look.metric, look.model_sha256)
            if not path.exists():
                write_json(path, asdict(look))
    return len(known), ours


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time write to the ledger.

    Raises:
        UserError: The folder cannot be written.
    """
    lock = repository_root() / ".tuneproof" / "test_looks.lock"
    try:
        with one_at_a_time(lock, f"The ledger {folder}"):
            yield
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}), and every look at the test rows must "
            "be recorded there. Make it a writable folder, or judge on validation rows with "
            "evaluate.split=validation."
        ) from None


def _read_files(folder: Path) -> list[Look]:
    """Read the looks of the ledger in their order."""
    return sorted(
        (_read(path) for path in folder.glob("*.json")), key=lambda look: (look.place, look.key)
    )


def _read(path: Path) -> Look:
    try:
        return Look(**orjson.loads(path.read_bytes()))
    except (orjson.JSONDecodeError, TypeError):
        names = ", ".join(field.name for field in fields(Look))
        raise UserError(
            f"{path} is not a valid look at test rows: expected one JSON object with {names}. "
            f"Restore it with `git checkout -- {path}`. Do not delete it, because a missing look "
            "makes every later verdict too certain."
        ) from None


def _read_mlflow(tracker: Tracker, test_sha256: str) -> list[Look]:
    """Read the looks at this split from the tags of MLflow runs, oldest first."""
    found = []
    for tags in tracker.find_tags("test_sha256", test_sha256):
        # Skip tags that another version wrote.
        with suppress(KeyError, TypeError, orjson.JSONDecodeError):
            found += [Look(**look) for look in orjson.loads(tags["looks"])]
    return found
