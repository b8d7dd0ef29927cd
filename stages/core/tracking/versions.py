"""Versions of registered models: how to find one, and what it was asked with.

A version is named as MLflow names it: `<name>@<alias>` or `<name>/<version>`, with or without
`models:/` in front.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.core.config.schema import TrackingConfig
from stages.core.errors import UserError, hide_secrets
from stages.core.tracking.runs import PREFIX, tracking_uri
from stages.core.tracking.store import describe_failure, get_database, set_up_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))")
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""The codes of MLflow's exceptions for a model, a version or an alias that does not exist."""


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version of a model."""

    name: str
    number: str
    aliases: tuple[str, ...]
    model_id: str
    """The id of the logged model."""
    created: int
    """When it was registered, in milliseconds since 1970."""
    tags: Mapping[str, str]
    """The tags of Tuneproof, without their prefix."""

    @property
    def uri(self) -> str:
        """The MLflow URI, `models:/<name>/<version>`."""
        return f"models:/{self.name}/{self.number}"


def connect(tracking: TrackingConfig) -> "MlflowClient":
    """Set the tracking store and registry of this process, and return a client of them.

    Raises:
        UserError: The server does not answer, or the store is a SQLite file that does not exist.
            MLflow would create it.
    """
    import mlflow

    uri = tracking_uri(tracking)
    database = get_database(uri)
    if database and not database.exists():
        raise UserError(
            f"there is no registry at {hide_secrets(uri)}. Run `dvc repro`, which registers the "
            "model if it passes the gate, or set MLFLOW_TRACKING_URI"
        )
    set_up_mlflow(uri, tracking.timeout)
    client = mlflow.MlflowClient()
    try:
        client.search_registered_models(max_results=1)
    except Exception as error:  # any error of a server, a network or a database
        raise UserError(f"{describe_failure(error, uri)}. Check MLFLOW_TRACKING_URI") from None
    return client


def complete(reference: str, name: str) -> str:
    """Add the name of a model to a number or an alias alone, such as `3` or `@champion`."""
    if reference.isdigit():
        return f"{name}/{reference}"
    return name + reference if reference.startswith("@") else reference


def find_version(client: "MlflowClient", reference: str) -> Version:
    """Find the version that a reference names.

    Args:
        client: The client of the registry.
        reference: `<name>@<alias>` or `<name>/<version>`, with or without `models:/` in front.

    Raises:
        UserError: The reference has another form, or nothing has this name. The message lists what
            there is.
    """
    from mlflow.exceptions import MlflowException

    parts = REFERENCE.fullmatch(reference)
    if parts is None:
        raise UserError(
            f"{reference!r} names no registered version. Write <name>@<alias>, such as "
            "tuneproof-food@champion, or <name>/<version>, such as tuneproof-food/3"
        )
    name = parts["name"]
    try:
        number = parts["version"]
        if parts["alias"]:
            number = client.get_model_version_by_alias(name, parts["alias"]).version
        return as_version(client.get_model_version(name, number))
    except MlflowException as error:
        if error.error_code in MISSING:
            raise UserError(f"{reference}: {_list_known(client, name)}") from None
        raise


def as_version(found: "ModelVersion") -> Version:
    """Return MLflow's entity of a version as a `Version`.

    The entity must come from `get_model_version`, because other calls leave out the aliases.
    """
    tags = {
        key.removeprefix(PREFIX): value
        for key, value in found.tags.items()
        if key.startswith(PREFIX)
    }
    model_id = found.model_id or str(found.source).removeprefix("models:/")
    number = str(found.version)
    created = int(found.creation_timestamp)
    return Version(found.name, number, tuple(found.aliases), model_id, created, tags)


def read_asked(uri: str) -> dict[str, Any]:
    """Read what a registered model was asked with when it was evaluated.

    Args:
        uri: The MLflow URI of the version or of the logged model, or the folder with its files.

    Returns:
        See `stages.register.champion.describe_asking`.

    Raises:
        UserError: An earlier version of Tuneproof registered it, which did not record this.
    """
    from mlflow.models import Model

    metadata = Model.load(uri).metadata or {}
    if "asked" not in metadata:
        raise UserError(
            f"{uri} does not say how it was asked, because an earlier version of Tuneproof "
            "registered it. Run `dvc repro --force --single-item register` to register it again"
        )
    return dict(metadata["asked"])


def search_versions(client: "MlflowClient", name: str) -> list[Version]:
    """Return all versions of a registered model, without their aliases, which MLflow leaves out."""
    quote = '"' if "'" in name else "'"
    query = f"name = {quote}{name}{quote}"
    return [as_version(one) for one in _read_pages(client.search_model_versions, query)]


def list_models(client: "MlflowClient") -> list[str]:
    """List the names of all registered models."""
    return [model.name for model in _read_pages(client.search_registered_models)]


def _read_pages(search: Callable[..., Any], *given: str) -> Iterator[Any]:
    """Yield what a search of MLflow finds, page by page."""
    token = None
    while token != "":  # the token after the last page
        page = search(*given, page_token=token)
        yield from page
        token = page.token or ""


def _list_known(client: "MlflowClient", name: str) -> str:
    """Say which versions and aliases of a model there are, or which models."""
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        names = ", ".join(list_models(client)) or "none"
        return f"no registered model has the name {name}. There are: {names}"
    versions = search_versions(client, name)
    numbers = ", ".join(sorted((found.number for found in versions), key=int)) or "none"
    aliases = ", ".join(f"{alias} (version {number})" for alias, number in model.aliases.items())
    return f"there is no such version of {name}. Versions: {numbers}. Aliases: {aliases or 'none'}"
