"""The ledger of looks at test rows: `data/test_looks`, a folder for each test split with one small file a look.

It stands at the root of the original repository, also for queued and temporary experiments, which run in copies. It is
committed and travels with the repository. It has a file and not a line for each look, because `dvc exp apply` puts
every tracked file back to what it was when the experiment was queued, but leaves files alone that the experiment does
not know; and because two branches then merge without a conflict.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import orjson

from stages.core.config.schema import Config
from stages.core.environment.repository import git_commit, repository_root
from stages.core.errors import UserError
from stages.core.storage.files import write_json
from stages.core.tracking.tracker import Tracker

LEDGER = Path("data/test_looks")
"""Below the root of the repository; its folders are named by the first digits of the hash of their test split."""
Key = tuple[str, str, str]
DIGITS = 12  # of a hash in the name of a folder or file


@dataclass(frozen=True, slots=True)
class Look:
    """One model judged by one metric on one test split. No dates: the same work gives the same bytes."""

    place: int
    """1 for the first model that was judged on these rows."""
    test_sha256: str
    model_sha256: str
    metric: str
    value: float
    """Of the metric."""
    data: str
    """Name of the data set."""
    git_commit: str
    """With which the look was taken first."""

    @property
    def key(self) -> Key:
        """What makes it a look of its own: the same weights judged again by the same metric are none."""
        return self.test_sha256, self.model_sha256, self.metric


def enter_looks(
    config: Config, tracker: Tracker, test_sha256: str, values: Mapping[str, float]
) -> tuple[int, list[Look]]:
    """Write the looks at these models down where they are new, and those that MLflow knows and the ledger does not.

    Args:
        config: for the metric and the name of the data.
        tracker: for the looks that MLflow knows.
        test_sha256: of the test split.
        values: for each model the SHA-256 of its weights and its value of the primary metric.

    Returns:
        How many looks there are at this split, and those at these models.

    Raises:
        UserError: a file of the ledger is no look, or the ledger cannot be written.
    """
    folder = repository_root() / LEDGER / test_sha256[:DIGITS]
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
            path = folder / f"{look.place:03}-{look.metric}-{look.model_sha256[:DIGITS]}.json"
            if not path.exists():
                write_json(path, asdict(look))
    return len(known), ours


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process at a time writes to the ledger; a folder that cannot be written is a `UserError`."""
    from filelock import FileLock

    lock = repository_root() / ".tuneproof" / "test_looks.lock"
    try:
        lock.parent.mkdir(exist_ok=True)
        with FileLock(lock):
            yield
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): every look at the test rows is counted there. Make it a "
            "folder that can be written, or judge on validation rows with evaluate.split=validation."
        ) from None


def _read_files(folder: Path) -> list[Look]:
    """Those of the ledger, the first look first."""
    return sorted(
        (_read(path) for path in folder.glob("*.json")), key=lambda look: (look.place, look.key)
    )


def _read(path: Path) -> Look:
    try:
        return Look(**orjson.loads(path.read_bytes()))
    except (orjson.JSONDecodeError, TypeError):
        names = ", ".join(field.name for field in fields(Look))
        raise UserError(
            f"{path} is no look at test rows: expected one JSON object with {names}. Restore it with "
            f"`git checkout -- {path}`; a look that is removed makes every later verdict too certain."
        ) from None


def _read_mlflow(tracker: Tracker, test_sha256: str) -> list[Look]:
    """The looks at this split that are tags of runs, the oldest first."""
    found = []
    for tags in tracker.find_tags("test_sha256", test_sha256):
        with suppress(
            KeyError, TypeError, orjson.JSONDecodeError
        ):  # a tag that another version wrote
            found += [Look(**look) for look in orjson.loads(tags["looks"])]
    return found
