"""Register the model as a version with the alias, if it beats the champion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.core.config.schema import Config
from stages.core.config.train import CLASSIFYING
from stages.core.data.prompts import build_prompt, encode_prompt
from stages.core.data.records import read_records
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles
from stages.core.models.candidates import Candidate
from stages.core.models.classifier import get_limit, load_classifier, read_texts
from stages.core.models.loading import get_tokenizer, get_tuned_model
from stages.core.models.measured import hash_served
from stages.core.tracking.tracker import Tracker
from stages.register.card import render_card
from stages.register.champion import check_champion
from stages.register.gate import Condition, describe_purpose
from stages.register.promotion import promote
from stages.register.registry import check_round_trip, delete_model, find_champion, log_model

PROBES = 4  # prompts whose logits are compared
TRIES = 5  # how often to compare again if another model becomes the champion meanwhile
CLOSED = "the gate is closed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of the stage."""

    version: str | None
    """The version that has the model and the alias, or None if there is none."""
    sentence: str
    conditions: Sequence[Condition]
    """All conditions that were checked, the one on the champion last."""


def register(
    candidate: Candidate, report: dict[str, Any], conditions: Sequence[Condition], tracker: Tracker
) -> Outcome:
    """Compare the model with the champion and give it the alias, if all conditions hold.

    Two of these may run at once. The champion may change after the comparison, and then the model
    is compared with the new one. See `stages.register.promotion.promote`.

    Raises:
        UserError: The logged model is not the one that was measured, or a version remains in the
            registry that has no alias and cannot be removed.
    """
    logged = None
    registered = False
    try:
        for _ in range(TRIES):
            champion = tracker.safely(lambda: find_champion(candidate.config))
            if not tracker.enabled:
                return _say_away(tracker, conditions)
            checked = [*conditions, *check_champion(candidate, report, champion)]
            if not all(condition.passed for condition in checked):
                return Outcome(None, CLOSED, checked)
            name = candidate.config.register_.name
            served = hash_served(candidate, report["lineage"]["measured_sha256"])
            if champion and champion.served_sha256 == served:
                known = f"this model is already registered as {name} version {champion.version}"
                return Outcome(champion.version, known, checked)
            logged = logged or _log(candidate, report, tracker)
            card = render_card(candidate, report, checked)
            version = tracker.safely(
                lambda: promote(candidate, str(logged), report, card, champion)  # noqa: B023
            )
            if not tracker.enabled:
                return _say_away(tracker, checked)
            if version:
                registered = True
                return Outcome(version, _say_registered(candidate, report, version), checked)
        return Outcome(
            None,
            f"not registered, because the champion changed {TRIES} times during the comparison. "
            "Run `dvc repro --force --single-item register`",
            checked,
        )
    finally:
        if logged and not registered:
            delete_model(logged)


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


def _log(candidate: Candidate, report: dict[str, Any], tracker: Tracker) -> str | None:
    """Log the model, verify that it loads back unchanged, and return its id in MLflow.

    The id is None if MLflow fails.
    """
    model, tokenizer = _load(candidate)
    info = tracker.safely(lambda: log_model(candidate, model, tokenizer, tracker, report))
    if info is None:
        return None
    try:
        probes = _get_probes(candidate.config, tokenizer)
        tracker.safely(lambda: check_round_trip(info.model_uri, model, tokenizer, probes))
    except UserError:
        delete_model(info.model_id)
        raise
    return str(info.model_id)


def _load(candidate: Candidate) -> tuple[Any, Any]:
    """Load the tuned model and its tokenizer."""
    from stages.core.models.generation import add_end_tokens

    config = candidate.config
    folder = candidate.get_folder()
    base = candidate.get_base()
    if config.train.method in CLASSIFYING:
        return load_classifier(config, folder)
    tokenizer = get_tokenizer(ModelFiles(str(folder), None, None))
    model = get_tuned_model(base, config.model.dtype, folder)
    add_end_tokens(model, tokenizer)
    return model, tokenizer


def _get_probes(config: Config, tokenizer: Any) -> list[list[int]]:
    """Encode the prompts of the first few test rows."""
    records = read_records("test")[:PROBES]
    if config.train.method in CLASSIFYING:
        return [
            reading.ids
            for reading in read_texts(tokenizer, [r.question for r in records], get_limit(config))
        ]
    return [
        encode_prompt(tokenizer, build_prompt(r, config.prompt.tuned_system_prompt))
        for r in records
    ]
