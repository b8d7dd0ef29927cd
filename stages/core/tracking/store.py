"""The database of MLflow: its lock, and its creation, which a kill must not leave half done."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.core.environment.repository import repository_root
from stages.core.storage.leftovers import PARTIAL, remove_leftovers, temporary_path
from stages.core.storage.locks import one_at_a_time


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
