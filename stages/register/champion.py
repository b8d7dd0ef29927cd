"""The new model against the champion: the paired difference of their answers to today's test rows.

The answers with which a model was judged are kept beside its weights. They are scored by today's metric, so that the
metric and its options may have changed since. The champion itself is loaded and asked only for rows that it has not
answered yet: ids of records come from their content, so that an answer belongs to its row whatever else was added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from stages.core.statistics.bounds import difference
from stages.core.storage.files import read_json
from stages.register.gate import Condition

ANSWERS = "test_answers.json"
"""Among the artifacts of a registered model."""
OVERRIDE = "To replace it all the same, because the new model is cheaper or newer: " + (
    "-S register.gate.require_beating_champion=false"
)
CHAMPION_ARM = "champion"


@dataclass(frozen=True, slots=True)
class Champion:
    """What the registry says of the version that holds the alias."""

    version: str
    uri: str
    """`models:/<name>/<version>`."""
    model_sha256: str


def get_answers_to_keep(candidate: Candidate) -> dict[str, Any]:
    """The content of `ANSWERS`: what the tuned model answered to the test rows, and how it was asked."""
    config = candidate.config
    asked = {
        "method": config.train.method,
        "instruction": config.prompt.short_instruction,
        "max_new_tokens": config.prompt.max_new_tokens,
        "max_length": get_limit(config)
        if config.train.method in CLASSIFYING
        else config.model.max_length,
    }
    return {
        "asked": asked,
        "answers": {answer.id: answer.text for answer in candidate.read_predictions()[0]},
    }


def check_champion(
    candidate: Candidate, report: Mapping[str, Any], champion: Champion | None
) -> list[Condition]:
    """The condition that the one-sided lower bound of `new - champion` lies above zero; none where it does not apply.

    A model that is no better takes the champion's place with a chance of at most 1 - confidence, so that noise does not
    ratchet the alias from model to model. A bound above minus the margin instead would let every model be worse than
    the last by as much (the creep of non-inferiority trials); whoever wants an equally good one decides it by name.

    Args:
        candidate: the tuned model that would be registered.
        report: `reports/verdict.json`; the confidence in it is corrected for the looks at these rows already.
        champion: the current holder of the alias, if there is one.
    """
    if champion is None or not candidate.config.register_.gate.require_beating_champion:
        return []
    if champion.model_sha256 == report["lineage"]["model_sha256"]:
        return [
            Condition(True, f"the champion, version {champion.version}, has these very weights")
        ]
    return [_compare(candidate, report, champion)]


def _compare(candidate: Candidate, report: Mapping[str, Any], champion: Champion) -> Condition:
    records = read_records("test")
    metric = report["primary_metric"]
    name = f"the champion, version {champion.version}"
    try:
        theirs, asked = _get_answers(candidate.config, champion, records)
    except Exception as error:  # whatever a registry, a network, a removed file or another version of a library throws
        said = str(error).strip().split("\n")[0][:200]
        why = f"{name}, cannot answer today's test rows ({type(error).__name__}: {said})"
        return Condition(False, f"{why}. Make {champion.uri} loadable. {OVERRIDE}")
    ours = candidate.read_predictions()[0]
    metrics = Metrics([metric], {metric: report["measures"][metric]["options"]})
    new, old = (metrics.score_records(answers, records)[metric] for answers in (ours, theirs))
    gap = difference(new, old, report["looks"]["confidence"], get_groups(records))
    sentence = (
        f"{metric} {new.value:.3f}; {name}, has {old.value:.3f} on the same {len(records):,} test rows: a difference "
        f"of {gap.value:+.3f}, with {report['looks']['confidence']:.4g} confidence at least {gap.bound_low:+.3f}, "
        "and more than 0 wanted"
    )
    sentence += (
        f" (it had not answered {asked:,} of the rows before and was asked for them now)"
        if asked
        else ""
    )
    return (
        Condition(True, sentence)
        if gap.bound_low > 0
        else Condition(False, f"{sentence}. {OVERRIDE}")
    )


def _get_answers(
    config: Config, champion: Champion, records: Sequence[Record]
) -> tuple[list[Prediction], int]:
    """The champion's answers to these rows, and to how many of them it was asked now."""
    import mlflow

    kept = read_json(Path(mlflow.artifacts.download_artifacts(f"{champion.uri}/{ANSWERS}")))
    missing = [record for record in records if record.id not in kept["answers"]]
    texts = kept["answers"] | (
        ask_champion(config, champion, kept["asked"], missing) if missing else {}
    )
    return [Prediction(r.id, CHAMPION_ARM, texts[r.id], 0, 0, 0.0) for r in records], len(missing)


def ask_champion(
    config: Config, champion: Champion, asked: Mapping[str, Any], records: Sequence[Record]
) -> dict[str, str]:
    """Load the registered model and ask it as it was asked when it was judged; by transformers, whatever the engine.

    Args:
        config: for the limits of a batch.
        champion: to be loaded.
        asked: how, from `get_answers_to_keep`.
        records: the rows to answer.

    Returns:
        The answers by the ids of the records.
    """
    import mlflow

    from stages.core.inference.engine import Local

    loaded = mlflow.transformers.load_model(champion.uri, return_type="components")
    model = loaded["model"].to(get_device()).eval()  # in the type it was saved in
    tokenizer = loaded["tokenizer"]
    settings = _as_asked(config, asked)
    if asked["method"] in CLASSIFYING:
        answers = ask_classifier(CHAMPION_ARM, model, tokenizer, settings, records)
    else:
        engine = Local(model, tokenizer, config.model.batch_tokens)
        answers = ask(CHAMPION_ARM, engine, tokenizer, settings, records, asked["instruction"])
    return {answer.id: answer.text for answer in answers}


def _as_asked(config: Config, asked: Mapping[str, Any]) -> Config:
    """The configuration with the settings of the champion's answers."""
    changed = {
        "train": {"method": asked["method"], "encoder": None},
        "model": {"max_length": asked["max_length"]},
        "prompt": {"max_new_tokens": asked["max_new_tokens"]},
    }
    sections = {
        name: getattr(config, name).model_copy(update=values) for name, values in changed.items()
    }
    return config.model_copy(update=sections)
