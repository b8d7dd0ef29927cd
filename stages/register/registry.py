"""Use the MLflow registry: find the champion, log and verify a model, and create a version."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from stages.core.config.schema import Config
from stages.core.environment.lineage import config_sha256, versions
from stages.core.errors import UserError, hide_passwords
from stages.core.models.candidates import Candidate
from stages.core.models.classifier import TASKS
from stages.core.models.loading import weights_sha256
from stages.core.models.measured import hash_served
from stages.core.storage.files import sha256_file, write_json
from stages.core.tracking.runs import PREFIX, data_set, flatten, get_database, lock_store
from stages.core.tracking.tracker import Tracker
from stages.register.champion import ANSWERS, Champion, get_answers_to_keep
from stages.register.gate import describe_purpose

if TYPE_CHECKING:
    from mlflow import MlflowClient

UNFINISHED = PREFIX + "unfinished"
"""The tag of a version until it has the alias."""


def find_champion(config: Config) -> Champion | None:
    """Return the version that holds the alias, or None."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        version = mlflow.MlflowClient().get_model_version_by_alias(
            config.register_.name, config.register_.alias
        )
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    uri = f"models:/{version.name}/{version.version}"
    served = version.tags.get(PREFIX + "served_sha256", "unknown")
    return Champion(str(version.version), uri, served)


def log_model(
    candidate: Candidate, model: Any, tokenizer: Any, tracker: Tracker, report: dict[str, Any]
) -> Any:
    """Log the whole model to the stage's run, as a LoggedModel whose metrics name the test data.

    Its test answers are logged as an artifact, so that a later model can be compared with them.
    """
    import mlflow

    config = candidate.config
    pins = [
        f"{name}=={versions()[name].split('+')[0]}"
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
        )
        test = data_set(config.data.name, "test", report["lineage"]["data_sha256"]["test"])
        values = flatten({"arms": report["arms"][candidate.name]})
        mlflow.log_metrics(values, model_id=info.model_id, dataset=test)
    with TemporaryDirectory() as folder:
        path = Path(folder, ANSWERS)
        write_json(path, get_answers_to_keep(candidate))
        mlflow.MlflowClient().log_model_artifact(info.model_id, str(path))
    return info


def check_round_trip(model_uri: str, model: Any, tokenizer: Any, prompts: list[list[int]]) -> None:
    """Load the logged model back and compare its logits with those of the evaluated model.

    Raises:
        UserError: If the chat template or any logit differs, because then the artifact is not the
            model that was measured.
    """
    import mlflow
    import torch

    loaded = mlflow.transformers.load_model(model_uri, return_type="components")
    # The dtype stays the one it was saved in, as for anyone else who loads the model.
    back = loaded["model"].to(model.device).eval()
    if loaded["tokenizer"].chat_template != tokenizer.chat_template:
        raise UserError(
            "the logged model has a different chat template after loading, so it is not registered"
        )
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([prompt], device=model.device)
            if not torch.equal(model(ids).logits, back(ids).logits):
                raise UserError(
                    "the logged model has different logits after loading, so it is not registered"
                )


def delete_model(model_id: str) -> None:
    """Delete a logged model that does not become a version, if MLflow can."""
    import mlflow
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        mlflow.MlflowClient().delete_logged_model(model_id)


def promote(
    candidate: Candidate,
    model_id: str,
    report: dict[str, Any],
    description: str,
    champion: Champion | None,
) -> str | None:
    """Register a logged model and give it the alias, unless the champion is another one by now.

    A lock beside a SQLite store lets one process at a time do this, so the champion cannot change
    between the look at it and the new alias. A server has no such lock, and MLflow cannot set an
    alias on a condition. There the champion is looked at right before the alias is set and right
    after it.

    Args:
        candidate: The model.
        model_id: The id of the logged model.
        report: The content of `reports/verdict.json`.
        description: The model card.
        champion: The champion with which the model was compared.

    Returns:
        The version, or None if the champion is another one. Then no version remains.

    Raises:
        UserError: A version remains that has no alias and cannot be removed.
    """
    import mlflow

    config = candidate.config
    name = config.register_.name
    client = mlflow.MlflowClient()
    store = mlflow.get_registry_uri()
    with lock_store(store):
        if find_champion(config) != champion:
            return None
        if get_database(store):  # on a server it may be the version of a process that still runs
            _remove_unfinished(client, name, champion)
        tags = {**lineage_tags(candidate, report), UNFINISHED: "true"}
        version = str(mlflow.register_model(f"models:/{model_id}", name, tags=tags).version)
        try:
            client.update_model_version(name, version, description)
            became = find_champion(config) == champion and _become_champion(client, config, version)
        except BaseException:
            _withdraw(client, config, version, champion)
            raise
        if not became:
            _withdraw(client, config, version, champion)
            return None
        client.delete_model_version_tag(name, version, UNFINISHED)
        return version


def _become_champion(client: "MlflowClient", config: Config, version: str) -> bool:
    """Set the alias, and return whether the version has it right after that."""
    client.set_registered_model_alias(config.register_.name, config.register_.alias, version)
    now = find_champion(config)
    return now is not None and now.version == version


def _remove_unfinished(client: "MlflowClient", name: str, champion: Champion | None) -> None:
    """Remove the versions of processes that were killed before they had set the alias."""
    query = f"name = '{name}' and tags.`{UNFINISHED}` = 'true'"
    for left in client.search_model_versions(query):
        if champion and str(left.version) == champion.version:  # killed after it
            client.delete_model_version_tag(name, champion.version, UNFINISHED)
        else:
            client.delete_model_version(name, str(left.version))


def _withdraw(
    client: "MlflowClient", config: Config, version: str, champion: Champion | None
) -> None:
    """Remove a new version. If it has the alias, the champion before it gets the alias back.

    Raises:
        UserError: The registry does not remove it.
    """
    import mlflow

    name = config.register_.name
    alias = config.register_.alias
    try:
        now = find_champion(config)
        if champion and now and now.version == version:
            client.set_registered_model_alias(name, alias, champion.version)
        client.delete_model_version(name, version)
    except Exception as error:  # of a server, a network or a database
        command = (
            f"import mlflow; mlflow.MlflowClient('{hide_passwords(mlflow.get_registry_uri())}')"
        )
        raise UserError(
            f"not registered, but version {version} of {name} remains in the registry, because "
            f"MLflow cannot remove it ({type(error).__name__}: "
            f"{hide_passwords(str(error))[:200]}). Remove it with\n"
            f"    python -c \"{command}.delete_model_version('{name}', '{version}')\"\n"
            f"It had the alias {alias} if MLflow failed after it was set. Before that, "
            f"{f'version {champion.version}' if champion else 'no version'} had it."
        ) from error


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
        # This hash covers the gate's settings too, which the verdict does not depend on.
        "config_sha256": config_sha256(candidate.run),
        "data": lineage["data"],
        **{f"{split}_sha256": digest for split, digest in lineage["data_sha256"].items()},
        "base_model": base["name"],
        "base_model_sha256": base["sha256"] or base["revision"] or "unknown",
        "model_sha256": weights_sha256(candidate.get_folder()),
        "served_sha256": hash_served(candidate, lineage["measured_sha256"]),
        **({"chat_template_sha256": sha256_file(template)} if template.exists() else {}),
        "versions": ", ".join(f"{name} {version}" for name, version in lineage["versions"].items()),
        "hardware": str(training["hardware"]["device"]),
        "seed": str(training["seed"]),
    }
    return {f"{PREFIX}{key}": value for key, value in tags.items()}
