"""Use the MLflow registry: find the champion, and log and verify a model."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from stages.core.config.schema import Config
from stages.core.environment.lineage import config_sha256, versions
from stages.core.models.adapters import CONFIG, HEAD_CONFIG, NEEDED
from stages.core.models.candidates import Candidate
from stages.core.models.classifier import TASKS
from stages.core.models.loading import weights_sha256
from stages.core.models.measured import hash_served
from stages.core.storage.files import sha256_file, write_json
from stages.core.tracking.runs import PREFIX, data_set, flatten
from stages.core.tracking.tracker import Tracker
from stages.core.tracking.version_files import (
    ADAPTER,
    ANSWERS,
    FILES_SHA256,
    fetch_model,
    hash_artifact,
)
from stages.core.tracking.versions import MISSING, Version, as_version, search_versions
from stages.register.champion import describe_asking
from stages.register.gate import describe_purpose
from stages.register.origin import ORIGIN, hash_origin, write_origin

if TYPE_CHECKING:
    from mlflow import MlflowClient

ORIGIN_SHA256 = PREFIX + "origin_sha256"
"""The tag with the result of `stages.register.origin.hash_origin`."""


def find_champion(config: Config) -> Version | None:
    """Return the version that holds the alias, or None."""
    import mlflow

    settings = config.register_
    return find_holder(mlflow.MlflowClient(), settings.name, settings.alias)


def find_holder(client: "MlflowClient", name: str, alias: str) -> Version | None:
    """Return the version that holds an alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version_by_alias(name, alias)
        return as_version(client.get_model_version(name, found.version))
    except MlflowException as error:
        if error.error_code in MISSING:
            return None
        raise


def is_same(one: Version | None, other: Version | None) -> bool:
    """Return whether two looks at an alias found the same version, or both found none."""
    return _identify(one) == _identify(other)


def _identify(version: Version | None) -> tuple[str, str] | None:
    if version is None:
        return None
    return version.number, version.tags.get("served_sha256", "unknown")


def log_model(
    candidate: Candidate, model: Any, tokenizer: Any, tracker: Tracker, report: dict[str, Any]
) -> Any:
    """Log the whole model to the stage's run, as a LoggedModel whose metrics name the test data.

    Its test answers are logged as an artifact, so that a later model can be compared with them. So
    are the files of its origin, and the adapter that was merged into it, so that it can be exported.
    """
    import mlflow

    config = candidate.config
    installed = versions()
    pins = [
        f"{name}=={installed[name].split('+')[0]}"
        for name in ("mlflow", "torch", "transformers", "accelerate")
    ]
    with mlflow.start_run(run_id=tracker.run_id):
        info = mlflow.transformers.log_model(
            {"model": model, "tokenizer": tokenizer},
            name=config.register_.name,
            task=TASKS.get(config.train.method, "text-generation"),
            torch_dtype=model.dtype,  # else the model loads in float32, unlike the measured one
            pip_requirements=pins,
            tags=lineage_tags(candidate, report),
            metadata={"asked": describe_asking(candidate)},
        )
        test = data_set(config.data.name, "test", report["lineage"]["data_sha256"]["test"])
        values = flatten({"arms": report["arms"][candidate.name]})
        mlflow.log_metrics(values, model_id=info.model_id, dataset=test)
    client = mlflow.MlflowClient()
    answers = {answer.id: answer.text for answer in candidate.read_predictions()[0]}
    with TemporaryDirectory() as folder:
        write_json(Path(folder, ANSWERS), answers)
        origin = Path(folder, ORIGIN)
        origin.mkdir()
        write_origin(origin, candidate, report["lineage"])
        _copy_adapter(candidate.get_folder(), Path(folder, ADAPTER))
        client.log_model_artifacts(info.model_id, folder)
        tags = {
            PREFIX + FILES_SHA256: hash_artifact(fetch_model(info.model_uri)),
            ORIGIN_SHA256: hash_origin(origin),
        }
    client.set_logged_model_tags(info.model_id, tags)
    return info


def _copy_adapter(tuned: Path, to: Path) -> None:
    """Copy the files of an adapter, if the tuned model is one."""
    if (tuned / CONFIG).exists():
        to.mkdir()
        for name in (*NEEDED, HEAD_CONFIG):  # a classifier's settings lie beside its adapter
            if (tuned / name).exists():
                shutil.copyfile(tuned / name, to / name)


def has_version(name: str, model_id: str) -> bool:
    """Return whether a version of a registered model has a logged model.

    It is true as well if the registry cannot say, so that nothing is deleted that is in use.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        versions = search_versions(mlflow.MlflowClient(), name)
    except (MlflowException, OSError):
        return True
    return any(version.model_id == model_id for version in versions)


def delete_model(model_id: str) -> None:
    """Delete a logged model that does not become a version, if MLflow can."""
    import mlflow
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        mlflow.MlflowClient().delete_logged_model(model_id)


def lineage_tags(candidate: Candidate, report: dict[str, Any]) -> dict[str, str]:
    """Build the tags that trace a version back to its inputs and its verdict."""
    lineage = report["lineage"]
    metric = report["primary_metric"]
    training = candidate.read_training()
    base = training["base_model"]
    template = candidate.get_folder() / "chat_template.jinja"
    gate = candidate.config.register_.gate
    tags = {
        "verdict": report["verdict"],
        "purpose": describe_purpose(gate, report["forgetting"]),
        "looks": report["looks"]["sentence"],
        "primary_metric": metric,
        "primary_value": repr(report["arms"][candidate.name][metric]["value"]),
        "git_commit": lineage["git_commit"],
        "git_dirty": str(lineage["git_dirty"]).lower(),
        "dvc_experiment": os.environ.get("DVC_EXP_NAME") or "none",
        # This hash covers the gate's settings too, which the verdict does not depend on.
        "config_sha256": config_sha256(candidate.run),
        "data": lineage["data"],
        **{f"{split}_sha256": digest for split, digest in lineage["data_sha256"].items()},
        "base_model": base["name"],
        "base_model_sha256": base["sha256"] or base["revision"] or "unknown",
        "model_sha256": weights_sha256(candidate.get_folder()),
        "served_sha256": hash_served(candidate, lineage),
        **({"chat_template_sha256": sha256_file(template)} if template.exists() else {}),
        "versions": ", ".join(f"{name} {version}" for name, version in lineage["versions"].items()),
        "hardware": str(training["hardware"]["device"]),
        "seed": str(training["seed"]),
    }
    return {f"{PREFIX}{key}": value for key, value in tags.items()}
