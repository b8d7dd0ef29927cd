"""Checks of the registered model itself: its files, how it is asked, and its verdict."""

from stages.core.data.predictions import Prediction
from stages.core.data.records import PREPARED, read_records
from stages.core.data.verdict import MEASURED
from stages.core.metrics.metrics import Metrics
from stages.core.models.encoders import get_encoder
from stages.core.storage.files import read_json, sha256_file, sha256_json
from stages.core.tracking.version_files import ANSWERS, FILES_SHA256, TOKENIZER, hash_artifact
from stages.register.champion import describe_asking
from stages.register.origin import hash_origin
from tools.verify.outcome import Outcome, compare, drifted, holds, unknown
from tools.verify.recorded import Recorded


def check_files(recorded: Recorded) -> Outcome:
    """Compute the hash of the files that are served or compared."""
    found = hash_artifact(recorded.folder)
    what = "weights, tokenizer, adapter, answers and system prompt"
    sentence = f"{what} have the SHA-256 {found[:12]} of the registry"
    return compare(found, recorded.version.tags.get(FILES_SHA256), sentence)


def check_origin(recorded: Recorded) -> Outcome:
    """Compute the hash of what was recorded about the origin."""
    expected = recorded.version.tags.get("origin_sha256")
    if expected and not recorded.origin.is_dir():
        return drifted(f"the folder {recorded.origin.name} is gone")
    files = ", ".join(sorted(path.name for path in recorded.origin.iterdir()))
    found = hash_origin(recorded.origin)
    return compare(found, expected, f"unchanged: {files}")


def check_template(recorded: Recorded) -> Outcome:
    """Compute the hash of the chat template."""
    path = recorded.folder / TOKENIZER / "chat_template.jinja"
    expected = recorded.version.tags.get("chat_template_sha256")
    if not path.exists() and expected is None:
        return holds("a classifier has none")
    if not path.exists():
        return drifted(f"{path.name} is gone")
    return compare(sha256_file(path), expected, f"SHA-256 {str(expected)[:12]}")


def check_asked(recorded: Recorded) -> Outcome:
    """Compare how the artifact says it was asked with the recorded configuration."""
    asked = recorded.asked
    prompt = asked["system_prompt"]
    what = "the system message of each row" if prompt is None else repr(prompt)
    sentence = f"{what}, at most {asked['max_new_tokens']} new tokens"
    return compare(asked, describe_asking(recorded.candidate), sentence)


def check_base_model(recorded: Recorded) -> Outcome:
    """Compute the hash of the base model again, from where the configuration takes it."""
    base = get_encoder(recorded.candidate.config)
    found = base.sha256 or base.revision
    tags = recorded.version.tags
    sentence = f"{tags['base_model']} has the SHA-256 {str(found)[:12]}"
    return compare(found, tags.get("base_model_sha256"), sentence)


def check_verdict(recorded: Recorded) -> Outcome:
    """Compare the verdict with the hash that was written beside it, and with the tags."""
    tags = recorded.version.tags
    verdict = recorded.verdict["verdict"]
    if (verdict, recorded.verdict["primary_metric"]) != (tags["verdict"], tags["primary_metric"]):
        return drifted(f"the verdict is {verdict!r}, but the tag says {tags['verdict']!r}")
    expected = read_json(recorded.origin / MEASURED.name).get("verdict_sha256")
    sentence = f"{verdict!r}, with the hash that `evaluate` wrote"
    return compare(sha256_json(recorded.verdict), expected, sentence)


def check_value(recorded: Recorded) -> Outcome:
    """Score the kept answers of the model again."""
    metric = recorded.verdict["primary_metric"]
    split = recorded.verdict["split"]
    path = f"{PREPARED}/{split}.jsonl"
    tags = recorded.version.tags
    rows = recorded.places.find(path, tags[f"{split}_sha256"])
    if rows is None:
        return unknown(f"the rows of {path} are not here; try `dvc pull`")
    records = read_records(split, rows)
    kept = read_json(recorded.folder / ANSWERS)
    answers = [Prediction(row.id, "tuned", kept[row.id], 0, 0, 0.0) for row in records]
    options = recorded.candidate.config.evaluate.options.get(metric, {})
    value = Metrics([metric], {metric: options}).score_records(answers, records)[metric].value
    sentence = f"{metric} {value:.3f}, computed from the kept answers to {len(records):,} rows"
    return compare(repr(value), tags["primary_value"], sentence)
