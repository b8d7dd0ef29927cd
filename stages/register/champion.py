"""Compare the new model with the champion by the paired difference on the current test rows.

A model's test answers are kept beside its weights. The current metric scores them, so the metric
and its options may have changed since. Record ids are hashes of the content, so a kept answer still
belongs to its row when other rows change. The champion is loaded only to answer new rows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core.config.schema import Config
from stages.core.config.train import CLASSIFYING
from stages.core.data.groups import get_groups
from stages.core.data.predictions import Prediction
from stages.core.data.records import Record, read_records
from stages.core.inference.asking import ask
from stages.core.inference.classifying import ask_classifier
from stages.core.metrics.metrics import Metrics
from stages.core.models.candidates import Candidate
from stages.core.models.classifier import get_limit
from stages.core.models.loading import get_device
from stages.core.models.measured import hash_served
from stages.core.statistics.bounds import difference
from stages.core.storage.files import read_json
from stages.core.tracking.version_files import ANSWERS, fetch_checked
from stages.core.tracking.versions import Version, read_asked
from stages.register.condition import Condition

OVERRIDE = "To replace it anyway, because the new model is cheaper or newer, set " + (
    "-S register.gate.require_beating_champion=false"
)
CHAMPION_ARM = "champion"
NAME = "champion"  # of the condition


def describe_asking(candidate: Candidate) -> dict[str, Any]:
    """Describe how the candidate was asked for its test answers.

    Whoever serves the model asks it alike. The chat template is saved with the tokenizer, with its
    arguments in it.

    Returns:
        - `method`: The training method.
        - `system_prompt`: The evaluated system prompt. None is the one of each row.
        - `max_new_tokens`: The limit of an answer.
        - `max_length`: The limit of a prompt with its answer, or of a classifier's text, in tokens.
    """
    config = candidate.config
    classifies = config.train.method in CLASSIFYING
    return {
        "method": config.train.method,
        "system_prompt": config.prompt.tuned_system_prompt,
        "max_new_tokens": config.prompt.max_new_tokens,
        "max_length": get_limit(config) if classifies else config.model.max_length,
    }


def check_champion(
    candidate: Candidate, report: Mapping[str, Any], champion: Version | None
) -> list[Condition]:
    """Require the one-sided lower bound of `new - champion` to lie above zero.

    A model that is no better replaces the champion with a probability of at most 1 - confidence, so
    noise does not ratchet the alias from model to model. A bound above minus the margin would
    instead let every model be worse than the last by that margin, which is the creep of
    non-inferiority trials. To accept an equally good model, the user must say so explicitly.

    Args:
        candidate: The tuned model that would be registered.
        report: The content of `reports/verdict.json`. Its confidence is already corrected for
            repeated looks at these rows.
        champion: The current holder of the alias, if there is one.

    Returns:
        The condition, or an empty list if no comparison is required.
    """
    if not candidate.config.register_.gate.require_beating_champion:
        return []
    if champion is None:
        return [Condition(NAME, True, "there is no champion yet")]
    served = hash_served(candidate, report["lineage"])
    if champion.tags.get("served_sha256") == served:
        same = f"the champion, version {champion.number}, has the same weights and is asked alike"
        return [Condition(NAME, True, same)]
    answers = candidate.read_predictions()[0]
    confidence = report["looks"]["confidence"]
    return [compare(candidate.config, answers, champion, confidence, OVERRIDE)]


def compare(
    config: Config,
    answers: Sequence[Prediction],
    champion: Version,
    confidence: float,
    override: str = "",
) -> Condition:
    """Compare a model with the champion on the current test rows.

    Args:
        config: The configuration, which has the metric.
        answers: The answers of the new model to the current test rows.
        champion: The holder of the alias.
        confidence: The confidence of the one-sided bound.
        override: How to replace the champion anyway, for a condition that fails.
    """
    records = read_records("test")
    metric = config.evaluate.primary_metric
    name = f"the champion, version {champion.number}"
    try:
        theirs, asked = get_answers(config, champion, fetch_checked(champion), records)
    except Exception as error:
        # A registry, a network, a missing file or another library version may raise anything.
        said = str(error).strip().split("\n")[0][:200]
        why = (
            f"{name}, cannot answer the current test rows ({type(error).__name__}: {said}). "
            f"Make sure that {champion.uri} can be loaded. {override}"
        )
        return Condition(NAME, False, why.rstrip(), limit=0.0)
    metrics = Metrics([metric], {metric: config.evaluate.options.get(metric, {})})
    new, old = (metrics.score_records(found, records)[metric] for found in (answers, theirs))
    gap = difference(new, old, confidence, get_groups(records))
    sentence = (
        f"{metric} {new.value:.3f}; {name}, has {old.value:.3f} "
        f"on the same {len(records):,} test rows. "
        f"The difference is {gap.value:+.3f}, "
        f"with {confidence:.4g} confidence at least {gap.bound_low:+.3f}. "
        "The gate requires this bound to be above 0"
    )
    if asked:
        sentence += (
            f" (the champion had not answered {asked:,} of the rows before and did so now; it may have "
            "been trained on some of them if it had another seed or another split)"
        )
    passed = gap.bound_low > 0
    sentence += f". {override}" if override and not passed else ""
    return Condition(NAME, passed, sentence, gap.value, gap.bound_low, 0.0)


def get_answers(
    config: Config, version: Version, folder: Path, records: Sequence[Record]
) -> tuple[list[Prediction], int]:
    """Get a version's answers to these rows, and the number of rows it answered only now.

    Args:
        config: The configuration, which gives the batch limits.
        version: The registered version.
        folder: The folder with its files.
        records: The rows.

    Raises:
        ValueError: Some of the answers are missing.
    """
    kept = read_json(folder / ANSWERS)
    missing = [record for record in records if record.id not in kept]
    texts = kept | (ask_champion(config, version, missing) if missing else {})
    silent = [record.id for record in records if not isinstance(texts.get(record.id), str)]
    if silent:
        raise ValueError(f"{len(silent)} of its answers are missing, the first for row {silent[0]}")
    return [Prediction(r.id, CHAMPION_ARM, texts[r.id], 0, 0, 0.0) for r in records], len(missing)


def ask_champion(config: Config, champion: Version, records: Sequence[Record]) -> dict[str, str]:
    """Load the registered model and ask it as it was asked when it was judged.

    It always runs on transformers, whatever the configured engine is.

    Args:
        config: The configuration, which gives the batch limits.
        champion: The registered model.
        records: The rows to answer.

    Returns:
        The answers by record id.
    """
    import mlflow

    from stages.core.inference.engine import TransformersEngine

    loaded = mlflow.transformers.load_model(champion.uri, return_type="components")
    model = loaded["model"].to(get_device()).eval()  # in the dtype in which it was saved
    tokenizer = loaded["tokenizer"]
    asked = read_asked(champion.uri)
    settings = _as_asked(config, asked)
    if asked["method"] in CLASSIFYING:
        answers = ask_classifier(CHAMPION_ARM, model, tokenizer, settings, records)
    else:
        engine = TransformersEngine(model, tokenizer, config.model.max_batch_tokens)
        answers = ask(CHAMPION_ARM, engine, tokenizer, settings, records, asked["system_prompt"])
    return {answer.id: answer.text for answer in answers}


def _as_asked(config: Config, asked: Mapping[str, Any]) -> Config:
    """Return the configuration with the settings that produced the champion's answers."""
    changed = {
        "train": {"method": asked["method"], "encoder": None},
        "model": {"max_length": asked["max_length"]},
        "prompt": {"max_new_tokens": asked["max_new_tokens"]},
    }
    sections = {
        name: getattr(config, name).model_copy(update=values) for name, values in changed.items()
    }
    return config.model_copy(update=sections)
