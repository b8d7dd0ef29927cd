"""A note of the MLflow runs that a process has open, so that the next one can end them.

MLflow shows the runs of a killed process as running for ever.
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from stages.core.environment.repository import repository_root
from stages.core.errors import hide_secrets
from stages.core.storage.leftovers import PARTIAL, find_leftovers, temporary_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTES = Path(".tuneproof/open_runs")  # at the root of the repository, like the default store


def note_open_runs(uri: str, runs: list[str]) -> None:
    """Note which runs of a tracking server this process has open."""
    path = _get_note()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps({"uri": hide_secrets(uri), "runs": runs}))


def remove_note() -> None:
    """Remove the note, because the runs are closed."""
    _get_note().unlink(missing_ok=True)


def end_killed_runs(client: "MlflowClient", uri: str) -> None:
    """End the runs that killed processes left open on a tracking server with the status `KILLED`."""
    for path in find_leftovers(repository_root() / NOTES, PARTIAL):
        # A process may have been killed while it wrote its note.
        with suppress(orjson.JSONDecodeError):
            note = orjson.loads(path.read_bytes())
            if note["uri"] != hide_secrets(uri):
                continue
            _end(client, note["runs"])
        path.unlink(missing_ok=True)


def _end(client: "MlflowClient", runs: list[str]) -> None:
    from mlflow.exceptions import MlflowException

    for run_id in runs:
        with suppress(MlflowException):  # somebody deleted the run
            if client.get_run(run_id).info.status == "RUNNING":
                client.set_terminated(run_id, "KILLED")


def _get_note() -> Path:
    return temporary_path(repository_root() / NOTES / "runs", PARTIAL)
