"""How many models have been judged on the same test rows: the ledger `data/test_looks`, one small file a look.

The best of twenty models on the same rows looks better than it is. So every look is counted, also from queued and
temporary experiments, which run in copies: the ledger stands at the root of the original repository. It is committed
and travels with the repository. It has a file for each look and not a line, because `dvc exp apply` puts every tracked
file back to what it was when the experiment was queued, but leaves files alone that the experiment does not know; and
because two branches then merge without a conflict.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import orjson

from stages.core.config import Config
from stages.core.errors import UserError
from stages.core.executions import repository_root
from stages.core.files import write_json
from stages.core.lineage import data_sha256, git_commit
from stages.core.tracking import Tracker

LEDGER = Path("data/test_looks")
"""Below the root of the repository: a folder for each test split, named by the first digits of its hash."""
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


@dataclass(frozen=True, slots=True)
class Looks:
    """How this look stands among those on the same rows."""

    place: int | None
    """Of this model (the last one, where several are judged together); null where nothing was counted."""
    count: int | None
    """Models that have been judged on these rows so far; null where nothing was counted."""
    confidence: float
    """That each one-sided bound of this look should have."""
    sentence: str


def count_looks(config: Config, tracker: Tracker, values: Mapping[str, float]) -> Looks:
    """Count the models that are being judged, each once however often it is judged again.

    The place of a model never changes, so that a verdict is the same when it is reached again. The looks that MLflow
    knows and the ledger does not (of another clone that shares the server) count too.

    Args:
        config: for the split, the primary metric and the confidence.
        tracker: of the stage: its run and the parent are tagged with the look.
        values: for each model the SHA-256 of its weights and its value of the primary metric.

    Raises:
        UserError: a file of the ledger cannot be read, or the ledger cannot be written.
    """
    confidence = config.evaluate.confidence
    reason = _why_not(config)
    if reason:
        return Looks(None, None, confidence, reason)
    test_sha256 = data_sha256()["test"]
    count, ours = _enter(config, tracker, test_sha256, values)
    tracker.tag("test_sha256", test_sha256)
    tracker.tag("looks", orjson.dumps([asdict(look) for look in ours]).decode())
    place = max(look.place for look in ours)
    adjusted = get_confidence(confidence, place)
    return Looks(place, count, adjusted, _say(place, count, confidence, adjusted))


def get_confidence(confidence: float, place: int) -> float:
    """The confidence of a one-sided bound in the look of this place: the chance of an error is divided by the place.

    Bonferroni's correction for the looks up to this one, so that the verdict on a model does not depend on models that
    come after it. The chances of the looks add up all the same: `python -m benchmarks.looks` shows by how much.
    """
    return 1 - (1 - confidence) / place


def _why_not(config: Config) -> str | None:
    """Why nothing is counted, or None."""
    if config.evaluate.split == "validation":
        return (
            "Judged on validation rows (evaluate.split=validation), which is no look at the test rows. The values are "
            "optimistic: the prompted arms chose their prompts and training chose its best checkpoint on the same "
            "rows. A model is registered only after a look at the test rows."
        )
    if config.train.share < 1:
        return (
            f"Trained on {config.train.share:.0%} of the rows (train.share), for the learning curve: the look is not "
            "counted, and the model cannot be registered."
        )
    return None


def _enter(config: Config, tracker: Tracker, test_sha256: str, values: Mapping[str, float]) -> tuple[int, list[Look]]:
    """How many looks there are at this split, and those at these models, which are written down if they are new."""
    from filelock import FileLock

    lock = repository_root() / ".tuneproof" / "test_looks.lock"
    folder = repository_root() / LEDGER / test_sha256[:DIGITS]
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        known: dict[Key, Look] = {}
        for look in [*_read_ledger(folder), *_read_mlflow(tracker, test_sha256)]:
            known.setdefault(look.key, look)
        ours = []
        for model_sha256, value in values.items():
            place = max([len(known), *(look.place for look in known.values())]) + 1
            facts = (config.evaluate.primary_metric, value, config.data.name, git_commit())
            new = Look(place, test_sha256, model_sha256, *facts)
            ours.append(known.setdefault(new.key, new))
        for look in known.values():  # also those that only MLflow had
            _write(folder, look)
    return len(known), ours


def _read_ledger(folder: Path) -> list[Look]:
    return [_read(path) for path in sorted(folder.glob("*.json"))]


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
        with suppress(KeyError, TypeError, orjson.JSONDecodeError):  # a tag that another version wrote
            found += [Look(**look) for look in orjson.loads(tags["looks"])]
    return found


def _write(folder: Path, look: Look) -> None:
    path = folder / f"{look.place:03}-{look.metric}-{look.model_sha256[:DIGITS]}.json"
    if path.exists():
        return
    try:
        write_json(path, asdict(look))
    except PermissionError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): every look at the test rows is counted there. Make the "
            "folder writable, or judge on validation rows with evaluate.split=validation."
        ) from None


def _say(place: int, count: int, confidence: float, adjusted: float) -> str:
    if place == 1:
        sentence = "The first model judged on these test rows"
    else:
        sentence = (
            f"The {_ordinal(place)} model judged on these test rows: each bound has {adjusted:.4g} confidence instead "
            f"of {confidence:.4g} (Bonferroni: the chance of an error is divided by {place})"
        )
    later = f"; {count} have been judged by now" if count > place else ""
    return f"{sentence}{later}."


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
