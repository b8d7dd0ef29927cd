"""Register the model as a version with the alias, if it beats the champion."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from stages.core.models.candidates import Candidate
from stages.core.models.measured import hash_served
from stages.core.tracking.tracker import Tracker
from stages.core.tracking.version_files import FILES_SHA256
from stages.core.tracking.versions import Version
from stages.register.card import render_card
from stages.register.champion import check_champion
from stages.register.condition import Condition
from stages.register.gate import describe_purpose
from stages.register.promotion import promote
from stages.register.registry import delete_model, find_champion, has_version, log_model
from stages.register.round_trip import check_round_trip, get_probes, load_candidate

TRIES = 5  # how often to compare again if another model becomes the champion meanwhile
CLOSED = "the gate is closed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of the stage."""

    version: str | None
    """The version that has the model and the alias, or None if there is none."""
    sentence: str
    conditions: Sequence[Condition]
    """All conditions that were checked. The comparison with the champion and the round trip are the
    last ones, and are left out if the gate was closed before."""


def register(
    candidate: Candidate, report: dict[str, Any], conditions: Sequence[Condition], tracker: Tracker
) -> Outcome:
    """Compare the model with the champion and give it the alias, if all conditions hold.

    Two of these may run at once. The champion may change after the comparison, and then the model
    is compared with the new one. See `stages.register.promotion.promote`.

    Raises:
        UserError: A version remains in the registry that has no alias and cannot be removed.
    """
    registration = _Registration(candidate, report, tracker)
    checked = list(conditions)
    try:
        for _ in range(TRIES):
            champion = tracker.safely(lambda: find_champion(candidate.config))
            if not tracker.enabled:
                return _say_away(tracker, conditions)
            checked = [*conditions, *check_champion(candidate, report, champion)]
            if not all(condition.passed for condition in checked):
                return Outcome(None, CLOSED, checked)
            outcome = registration.put(checked, champion)
            if outcome:
                return outcome
        return Outcome(
            None,
            f"not registered, because the champion changed {TRIES} times during the comparison. "
            "Run `dvc repro --force --single-item register`",
            checked,
        )
    finally:
        registration.clean_up()


class _Registration:
    """A model that is logged once, however often it is compared with a new champion."""

    def __init__(self, candidate: Candidate, report: dict[str, Any], tracker: Tracker) -> None:
        self._candidate = candidate
        self._report = report
        self._tracker = tracker
        self._model_id: str | None = None
        self._round_trip: Condition | None = None
        self._registered = False

    def put(self, checked: Sequence[Condition], champion: Version | None) -> Outcome | None:
        """Make the model the champion. The result is None if the champion has changed."""
        name = self._candidate.config.register_.name
        served = hash_served(self._candidate, self._report["lineage"])
        tags = champion.tags if champion else {}
        # A version that an earlier Tuneproof registered has no hash to check its files by.
        if champion and tags.get("served_sha256") == served and FILES_SHA256 in tags:
            known = f"this model is already registered as {name} version {champion.number}"
            return Outcome(champion.number, known, checked)
        if self._round_trip is None:
            self._log()
        if self._model_id is None or self._round_trip is None:
            return _say_away(self._tracker, checked)
        checked = [*checked, self._round_trip]
        if not self._round_trip.passed:
            return Outcome(None, CLOSED, checked)
        card = render_card(self._candidate, self._report, checked)
        action = partial(
            promote, self._candidate, self._model_id, self._report, card, checked, champion
        )
        version = self._tracker.safely(action)
        if not self._tracker.enabled:
            return _say_away(self._tracker, checked)
        if version is None:
            return None
        self._registered = True
        return Outcome(version, _say_registered(self._candidate, self._report, version), checked)

    def clean_up(self) -> None:
        """Delete the logged model if it did not become a version.

        The registry is asked, because an error after the move of the alias leaves a version.
        """
        name = self._candidate.config.register_.name
        if self._model_id and not self._registered and not has_version(name, self._model_id):
            delete_model(self._model_id)

    def _log(self) -> None:
        """Log the model and load it back. Both fields stay None if MLflow fails."""
        model, tokenizer = load_candidate(self._candidate, self._report["lineage"]["dtype"])
        info = self._tracker.safely(
            lambda: log_model(self._candidate, model, tokenizer, self._tracker, self._report)
        )
        if info:
            self._model_id = str(info.model_id)
            probes = get_probes(self._candidate.config, tokenizer)
            self._round_trip = self._tracker.safely(
                lambda: check_round_trip(info.model_uri, model, tokenizer, probes)
            )


def _say_away(tracker: Tracker, conditions: Sequence[Condition]) -> Outcome:
    sentence = (
        f"not registered, because {tracker.failure}. "
        "Run `dvc repro --force --single-item register` once that is solved"
    )
    return Outcome(None, sentence, conditions)


def _say_registered(candidate: Candidate, report: dict[str, Any], version: str) -> str:
    settings = candidate.config.register_
    purpose = describe_purpose(settings.gate, report["forgetting"])
    return f"registered as {settings.name} version {version}, alias {settings.alias}, {purpose}"
