"""Count the models judged on the same test rows, and correct the bounds of this one for it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import orjson

from stages.core.config.schema import Config
from stages.core.environment.lineage import data_sha256
from stages.core.statistics.bounds import correct_for_looks
from stages.core.tracking.tracker import Tracker
from stages.evaluate.analysis.ledger import enter_looks


@dataclass(frozen=True, slots=True)
class Looks:
    """Place this look among all looks at the same rows."""

    place: int | None
    """The position of this model, or of the last one if several are judged together.

    Null if nothing was counted.
    """
    count: int | None
    """The number of models judged on these rows so far; null if nothing was counted."""
    confidence: float
    """The confidence that each one-sided bound of this look needs."""
    sentence: str


def count_looks(config: Config, tracker: Tracker, values: Mapping[str, float]) -> Looks:
    """Count the models that are being judged. A model that is judged again counts once.

    The place of a model never changes, so judging it again gives the same verdict. Looks that only
    MLflow knows, from another clone that shares the server, count too.

    Args:
        config: The configuration, which has the split, the primary metric and the confidence.
        tracker: The tracker of the stage. It tags the stage's run and its parent with the look.
        values: The primary metric of each model, by the SHA-256 of its weights.

    Raises:
        UserError: A file of the ledger is not a valid look, or the ledger cannot be written.
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
    adjusted = correct_for_looks(confidence, place)
    return Looks(place, count, adjusted, _say(place, count, confidence, adjusted))


def _why_not(config: Config) -> str | None:
    """Say why this run does not count as a look; None if it does."""
    if config.evaluate.split == "validation":
        return (
            "The models were judged on validation rows (evaluate.split=validation), which does not "
            "count as a look at the test rows. The values are optimistic, because the prompts and "
            "the best checkpoint were chosen on the same rows. A model can be registered only "
            "after a look at the test rows."
        )
    if config.train.train_fraction < 1:
        return (
            f"The model was trained on {config.train.train_fraction:.0%} of the rows (train.train_fraction) for the "
            "learning curve. The look is not counted, and the model cannot be registered."
        )
    return None


def _say(place: int, count: int, confidence: float, adjusted: float) -> str:
    if place == 1:
        sentence = "This is the first model judged on these test rows"
    else:
        sentence = (
            f"This is the {_ordinal(place)} model judged on these test rows, so a claim that "
            f"tuning is better needs a confidence of {adjusted:.4g} instead of {confidence:.4g} "
            f"(Bonferroni: the error probability is divided by {place})"
        )
    later = f"; {count} models have been judged so far" if count > place else ""
    return f"{sentence}{later}."


def _ordinal(number: int) -> str:
    ending = (
        "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{ending}"
