"""Create a version in the MLflow registry and make it the champion."""

from typing import TYPE_CHECKING, Any

from stages.core.config.schema import Config
from stages.core.errors import UserError, hide_secrets
from stages.core.models.candidates import Candidate
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.store import get_database, lock_store
from stages.register.champion import Champion
from stages.register.registry import find_champion, lineage_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

UNFINISHED = PREFIX + "unfinished"
"""The tag of a version until it has the alias."""


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
            _remove_unfinished(client, name)
        logged = {
            key: value
            for key, value in client.get_logged_model(model_id).tags.items()
            if key.startswith(PREFIX)
        }
        tags = {**logged, **lineage_tags(candidate, report), UNFINISHED: "true"}
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


def _remove_unfinished(client: "MlflowClient", name: str) -> None:
    """Remove the versions of processes that were killed before they had set an alias."""
    query = f"name = '{name}' and tags.`{UNFINISHED}` = 'true'"
    for left in client.search_model_versions(query):
        version = str(left.version)
        if client.get_model_version(name, version).aliases:  # killed after it
            client.delete_model_version_tag(name, version, UNFINISHED)
        else:
            client.delete_model_version(name, version)


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
        command = f"import mlflow; mlflow.MlflowClient('{hide_secrets(mlflow.get_registry_uri())}')"
        raise UserError(
            f"not registered, but version {version} of {name} remains in the registry, because "
            f"MLflow cannot remove it ({type(error).__name__}: "
            f"{hide_secrets(str(error))[:200]}). Remove it with\n"
            f"    python -c \"{command}.delete_model_version('{name}', '{version}')\"\n"
            f"It had the alias {alias} if MLflow failed after it was set. Before that, "
            f"{f'version {champion.version}' if champion else 'no version'} had it."
        ) from error
