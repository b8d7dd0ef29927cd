"""How many models have been judged on the same test rows, and what that does to the bounds of this one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import orjson

from stages.core.config.schema import Config
from stages.core.environment.lineage import data_sha256
from stages.core.tracking.tracker import Tracker
from stages.evaluate.analysis.ledger import enter_looks


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
        UserError: a file of the ledger is no look, or the ledger cannot be written.
    """
    confidence = config.evaluate.confidence
    reason = _why_not(config)
    if reason:
        return Looks(None, None, confidence, reason)
    test_sha256 = data_sha256()["test"]
    count, ours = enter_looks(config, tracker, test_sha256, values)
    tracker.set_tag("test_sha256", test_sha256)
    tracker.set_tag("looks", orjson.dumps([asdict(look) for look in ours]).decode())
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
    ending = (
        "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{ending}"
