"""Register the model as a version with the alias, once the gate is open."""

from typing import Any

from stages.core.config.schema import Config
from stages.core.config.train import CLASSIFYING
from stages.core.data.prompts import build_prompt, encode_prompt
from stages.core.data.records import read_records
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles, get_base_model
from stages.core.models.candidates import Candidate
from stages.core.models.classifier import get_limit, load_classifier, read_texts
from stages.core.models.loading import get_tokenizer, get_tuned_model, weights_sha256
from stages.core.tracking.tracker import Tracker
from stages.register.champion import Champion
from stages.register.gate import describe_purpose
from stages.register.registry import check_round_trip, create_version, log_model

PROBES = 4  # prompts whose logits are compared
AWAY = (
    "not registered, because no MLflow registry is available "
    "(tracking is disabled, or the server does not answer). "
    "Run `dvc repro --force --single-item register` once it is"
)


def register(
    candidate: Candidate,
    report: dict[str, Any],
    champion: Champion | None,
    card: str,
    tracker: Tracker,
) -> tuple[str | None, str]:
    """Log the model, verify that it loads back unchanged, and give it a version and the alias.

    Returns:
        The version, or None if no registry is available, and a sentence about the outcome.
    """
    config = candidate.config
    name = config.register_.name
    if champion is not None and champion.model_sha256 == report["lineage"]["model_sha256"]:
        return (
            champion.version,
            f"these weights are already registered as {name} version {champion.version}",
        )
    if not tracker.enabled:
        return None, AWAY
    model, tokenizer = _load(candidate)
    info = tracker.safely(lambda: log_model(candidate, model, tokenizer, tracker, report))
    if info is None:
        return None, AWAY
    check_round_trip(info.model_uri, model, tokenizer, _get_probes(config, tokenizer))
    version = tracker.safely(lambda: create_version(candidate, info.model_id, report, card))
    if version is None:
        return None, AWAY
    purpose = describe_purpose(config.register_.gate, report["forgetting"])
    return (
        version,
        f"registered as {name} version {version}, alias {config.register_.alias}, {purpose}",
    )


def check_weights(candidate: Candidate, report: dict[str, Any]) -> None:
    """Check that the verdict is about the weights that would be registered.

    Raises:
        UserError: If it is about other weights.
    """
    judged = report["lineage"]["model_sha256"]
    folder = candidate.get_folder()
    found = weights_sha256(folder)
    if judged != found:
        raise UserError(
            f"reports/verdict.json is about other weights ({judged[:12]}) "
            f"than those in {folder} ({found[:12]}). "
            "Only measured weights can be registered. Run `dvc repro`"
        )


def _load(candidate: Candidate) -> tuple[Any, Any]:
    """Load the tuned model and its tokenizer."""
    config = candidate.config
    folder = candidate.get_folder()
    if config.train.method in CLASSIFYING:
        return load_classifier(config, folder)
    tokenizer = get_tokenizer(ModelFiles(str(folder), None, None))
    return get_tuned_model(
        get_base_model(config.model, config.seed), config.model.dtype, folder
    ), tokenizer


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
