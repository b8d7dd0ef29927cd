"""The store of MLflow: how to reach it, its lock, and the creation of its database.

A kill must not leave the creation half done.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.core.environment.repository import repository_root
from stages.core.errors import hide_secrets
from stages.core.storage.leftovers import PARTIAL, remove_leftovers, temporary_path
from stages.core.storage.locks import LockTimeoutError, one_at_a_time

UNREACHABLE = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
"""The codes of MLflow's exceptions for a server that is away or breaks."""


def set_up_mlflow(uri: str, timeout: int) -> None:
    """Let MLflow use a store in this process, and not wait for long.

    Args:
        uri: The store.
        timeout: How many seconds to wait for an answer of a server.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(timeout))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    # Live metrics are written once a second. Without a buffer MLflow writes each step for itself,
    # and the end of a training waits up to two seconds for its queue.
    os.environ.setdefault("MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS", "1")
    import mlflow

    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    if hide_secrets(uri) != uri:  # MLflow would print the address of each run with the password
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"


def describe_failure(error: Exception, uri: str) -> str:
    """Say what MLflow did: it was locked, it refused, or it did not answer."""
    where = f"MLflow at {hide_secrets(uri)}"
    if isinstance(error, LockTimeoutError):
        return f"{where} cannot be used: {error}"
    said = hide_secrets(str(error)).split("\n")[0][:200]
    code = getattr(error, "error_code", None)  # of MLflow's own exceptions
    if code in (None, *UNREACHABLE):
        return f"{where} does not answer ({type(error).__name__}: {said})"
    return f"{where} refused with {code}: {said}"


def get_database(uri: str) -> Path | None:
    """Return the file of a SQLite store, or None if the store is a server."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    file = make_url(uri).database
    return None if file in (None, "", ":memory:") else Path(file).resolve()


@contextmanager
def lock_store(uri: str) -> Iterator[None]:
    """Let one process at a time create the tables, the experiment, a parent run or a champion.

    MLflow does not protect them. The lock is beside the database, so that it also counts for other
    repositories that use the same database. The lock for a server is in the repository, and so it
    counts for the processes of this repository alone. A database that does not exist is created.

    Raises:
        LockTimeoutError: Another process holds the lock.
        OSError: The lock cannot be written.
    """
    database = get_database(uri)
    if database is None:
        lock = repository_root() / ".tuneproof" / "tracking.lock"
        with one_at_a_time(lock, "The tracking server"):
            yield
        return
    with one_at_a_time(database.with_name(f"{database.name}.lock"), f"The database {database}"):
        _create(database)
        yield


def _create(database: Path) -> None:
    """Create the tables in a folder of this process, and move the database to its place.

    MLflow creates them by dozens of migrations. It can never use a database in which a killed
    process has left the temporary table of one of them.
    """
    if database.exists() and database.stat().st_size:
        return
    from mlflow import MlflowClient

    remove_leftovers(database.parent, database.name)
    folder = temporary_path(database, PARTIAL)
    folder.mkdir(parents=True)
    try:
        MlflowClient(f"sqlite:///{folder / database.name}").search_experiments(max_results=1)
        (folder / database.name).replace(database)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
