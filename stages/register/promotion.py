"""Create a version in the MLflow registry and make it the champion."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from stages.core.config.schema import Config
from stages.core.errors import UserError, hide_secrets
from stages.core.models.candidates import Candidate
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.versions import MISSING, Version
from stages.register.condition import Condition, get_gate_tags
from stages.register.history import forget_moves, move_alias
from stages.register.hub_card import add_front_matter
from stages.register.lock import lock_model
from stages.register.registry import find_champion, is_same, lineage_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

UNFINISHED = PREFIX + "unfinished"
"""The tag of a version until it has the alias."""
CARD = "model_card.md"
"""The artifact of a registered model that holds its whole card."""
DESCRIPTION = 5_000  # characters of a description that MLflow's databases hold
REASON = "It passed the gate."


def promote(
    candidate: Candidate,
    model_id: str,
    report: dict[str, Any],
    card: str,
    conditions: Sequence[Condition],
    champion: Version | None,
) -> str | None:
    """Register a logged model and give it the alias, unless the champion is another one by now.

    A lock in the registry lets one process at a time do this, see `stages.register.lock`. Somebody
    may still move the alias by hand, so the champion is looked at again right after that.

    Args:
        candidate: The model.
        model_id: The id of the logged model.
        report: The content of `reports/verdict.json`.
        card: The model card without its front matter, which a description does not need.
        conditions: The conditions of the gate.
        champion: The champion with which the model was compared.

    Returns:
        The version, or None if the champion is another one. Then no version remains.

    Raises:
        LockTimeoutError: Another process holds the lock, or has taken it over.
        UserError: A version remains that has no alias and cannot be removed.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    config = candidate.config
    name = config.register_.name
    client = mlflow.MlflowClient()
    with lock_model(client, name) as still_held:
        if not is_same(find_champion(config), champion):
            return None
        _remove_unfinished(client, name)
        _log_card(client, model_id, add_front_matter(card, candidate, report))
        logged = {
            key: value
            for key, value in client.get_logged_model(model_id).tags.items()
            if key.startswith(PREFIX)
        }
        tags = {**logged, **lineage_tags(candidate, report), **get_gate_tags(conditions)}
        version = str(
            mlflow.register_model(
                f"models:/{model_id}", name, tags={**tags, UNFINISHED: "true"}
            ).version
        )
        try:
            client.update_model_version(name, version, _describe(card))
            still_held()
            became = is_same(find_champion(config), champion) and _become_champion(
                client, config, version, champion
            )
        except BaseException:
            _withdraw(client, config, version, champion)
            raise
        if not became:
            _withdraw(client, config, version, champion)
            return None
        with suppress(MlflowException, OSError):  # whoever holds the lock next removes it
            client.delete_model_version_tag(name, version, UNFINISHED)
        return version


def mark_finished(client: "MlflowClient", version: Version) -> None:
    """Say of a version that has or gets an alias that it is none that a killed process left."""
    if UNFINISHED.removeprefix(PREFIX) in version.tags:
        client.delete_model_version_tag(version.name, version.number, UNFINISHED)


def _log_card(client: "MlflowClient", model_id: str, card: str) -> None:
    """Log the whole card beside the model."""
    with TemporaryDirectory() as folder:
        path = Path(folder, CARD)
        path.write_text(card, encoding="utf-8")
        client.log_model_artifact(model_id, str(path))


def _describe(card: str) -> str:
    """Cut a card to the length of a description."""
    if len(card) <= DESCRIPTION:
        return card
    end = f"\n\nThis is the beginning. The whole card is the artifact {CARD} of this model."
    return card[: DESCRIPTION - len(end)].rpartition("\n")[0] + end


def _become_champion(
    client: "MlflowClient", config: Config, version: str, champion: Version | None
) -> bool:
    """Set the alias, and return whether the version has it right after that."""
    name = config.register_.name
    replaced = champion.number if champion else None
    move_alias(client, name, config.register_.alias, version, replaced, "register", REASON)
    now = find_champion(config)
    return now is not None and now.number == version


def _remove_unfinished(client: "MlflowClient", name: str) -> None:
    """Remove the versions of processes that were killed before they had set an alias.

    A process that only stood still, and has lost the lock, cannot set an alias on its version then.
    """
    query = f"name = '{name}' and tags.`{UNFINISHED}` = 'true'"
    for left in client.search_model_versions(query):
        version = str(left.version)
        if client.get_model_version(name, version).aliases:  # killed after it
            client.delete_model_version_tag(name, version, UNFINISHED)
        else:
            forget_moves(client, name, version)
            client.delete_model_version(name, version)


def _withdraw(
    client: "MlflowClient", config: Config, version: str, champion: Version | None
) -> None:
    """Remove a new version and its moves. The champion before it gets the alias back.

    Raises:
        UserError: The registry does not remove it.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    name = config.register_.name
    alias = config.register_.alias
    try:
        now = find_champion(config)
        if champion and now and now.number == version:
            client.set_registered_model_alias(name, alias, champion.number)
        forget_moves(client, name, version)
        client.delete_model_version(name, version)
    except Exception as error:  # of a server, a network or a database
        if isinstance(error, MlflowException) and error.error_code in MISSING:
            return  # the next holder of the lock has removed it
        command = f"import mlflow; mlflow.MlflowClient('{hide_secrets(mlflow.get_registry_uri())}')"
        raise UserError(
            f"not registered, but version {version} of {name} remains in the registry, because "
            f"MLflow cannot remove it ({type(error).__name__}: "
            f"{hide_secrets(str(error))[:200]}). Remove it with\n"
            f"    python -c \"{command}.delete_model_version('{name}', '{version}')\"\n"
            f"It had the alias {alias} if MLflow failed after it was set. Before that, "
            f"{f'version {champion.number}' if champion else 'no version'} had it."
        ) from error
