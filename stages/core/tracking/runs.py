"""The MLflow runs of one pipeline execution: their location, common key and parent run."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from stages.core.config.schema import Config, TrackingConfig
from stages.core.data.records import PREPARED
from stages.core.environment.lineage import config_sha256
from stages.core.environment.repository import git_commit, git_dirty, repository_root
from stages.core.errors import hide_secrets
from stages.core.storage.files import sha256_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Dataset

PREFIX = "tuneproof."  # the prefix of tags
KEY = PREFIX + "key"
PARAMS_A_BATCH = 100
PARAM_LENGTH = 6000  # MLflow's limit


def tracking_uri(tracking: TrackingConfig) -> str:
    """Return the tracking URI.

    `MLFLOW_TRACKING_URI` comes first and the configuration second. The default is a SQLite file at
    the root of the repository.
    """
    return (
        os.environ.get("MLFLOW_TRACKING_URI")
        or tracking.uri
        or f"sqlite:///{repository_root() / 'mlflow.db'}"
    )


def execution_key(config: Config) -> str:
    """Return the key that the stages of one execution share.

    It depends on the commit, the name of DVC's experiment and the configuration.
    """
    return sha256_json([git_commit(), os.environ.get("DVC_EXP_NAME", ""), config_sha256(config)])[
        :16
    ]


def get_experiment(client: "MlflowClient", name: str, uri: str) -> str:
    """Return the id of the MLflow experiment, which is created if it does not exist.

    Two machines may do this at once on a server.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    folder = (repository_root() / "mlartifacts").as_uri() if uri.startswith("sqlite") else None
    try:
        return client.create_experiment(
            name, folder, tags={"mlflow.experimentKind": "custom_model_development"}
        )
    except MlflowException as error:
        found = client.get_experiment_by_name(name)
        if error.error_code == "RESOURCE_ALREADY_EXISTS" and found:
            return found.experiment_id
        raise


def get_parent(
    client: "MlflowClient", experiment: str, config: Config, by_name: bool = True
) -> str:
    """Return the id of this execution's parent run, which is created if it does not exist.

    Args:
        client: The client of the tracking server.
        experiment: The id of the MLflow experiment.
        config: The whole configuration.
        by_name: Search for the key that includes DVC's name of the experiment. Outside the pipeline
            that name is unknown. With False the newest parent of this commit and configuration is
            used.
    """
    same = {PREFIX + "git_commit": git_commit(), PREFIX + "config_sha256": config_sha256(config)}
    tags = {KEY: execution_key(config)} if by_name else same
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs = client.search_runs([experiment], query, max_results=1)
    if not runs:
        return _create_parent(client, experiment, config)
    client.update_run(runs[0].info.run_id, status="RUNNING")
    return runs[0].info.run_id


def _create_parent(client: "MlflowClient", experiment: str, config: Config) -> str:
    from mlflow.entities import Param

    tags = {
        KEY: execution_key(config),
        PREFIX + "git_commit": git_commit(),
        PREFIX + "git_dirty": str(git_dirty()).lower(),
        PREFIX + "config_sha256": config_sha256(config),
    }
    name = os.environ.get("DVC_EXP_NAME") or f"{git_commit()[:7]}-{config_sha256(config)[:4]}"
    run_id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
    values = _hide_secrets_in(
        config.model_dump(by_alias=True, exclude={"tracking", "conf_digest", "candidate"})
    )
    params = [Param(key, str(value)[:PARAM_LENGTH]) for key, value in leaves(values)]
    for start in range(0, len(params), PARAMS_A_BATCH):
        client.log_batch(run_id, params=params[start : start + PARAMS_A_BATCH])
    client.log_dict(run_id, values, "config.json")
    return run_id


def _hide_secrets_in(value: Any) -> Any:
    """Hide the secrets in all texts of a nested value, such as the query of a URL."""
    if isinstance(value, dict):
        return {key: _hide_secrets_in(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_hide_secrets_in(part) for part in value]
    return hide_secrets(value) if isinstance(value, str) else value


def data_set(name: str, split: str, sha256: str) -> "Dataset":
    """Describe a prepared split as an MLflow data set.

    The data set is identified by the digest of its bytes, shortened because MLflow allows 36
    characters.
    """
    from mlflow.entities import Dataset

    source = orjson.dumps({"path": str(PREPARED / f"{split}.jsonl")}).decode()
    return Dataset(f"{name}-{split}", sha256[:32], source_type="dvc", source=source)


def flatten(values: dict[str, Any]) -> dict[str, float]:
    """Flatten a nested mapping to its numbers under dotted names; other values are left out."""
    return {key: float(value) for key, value in leaves(values) if isinstance(value, int | float)}


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested mapping with their dotted names."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
