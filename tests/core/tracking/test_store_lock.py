"""Several processes that use one MLflow store."""

import logging
import os
import signal
import subprocess
import sys

from stages.core.storage import locks
from stages.core.storage.locks import one_at_a_time
from stages.core.tracking.store import get_database, lock_store
from stages.core.tracking.tracker import track
from tests.conftest import ROOT, TINY

OPEN = f"""
import sys
from stages.core.config.schema import parse
from stages.core.tracking.tracker import Tracker
from hydra import compose, initialize_config_dir
with initialize_config_dir({str(ROOT / "conf")!r}, version_base="1.3"):
    config = parse(compose("config", overrides={list(TINY)!r}))
import mlflow
print("ready", flush=True)
sys.stdin.readline()
tracker = Tracker(config, "prepare")
print(tracker.enabled and tracker.run_id, tracker.failure)
"""


def test_a_database_is_created_once_by_processes_in_folders_of_their_own(tmp_path):
    started = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        environment = os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'shared.db'}",
            "DVC_ROOT": str(tmp_path / name),
            "PYTHONPATH": str(ROOT),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", OPEN],
            cwd=tmp_path / name,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=300)[0] for process in started]
    assert not any(text.startswith("False") for text in said), said
    assert said[0].split()[0] != said[1].split()[0]


def test_a_database_that_another_process_holds_is_a_warning_that_names_it(
    config, prepared, workspace, caplog, monkeypatch
):
    monkeypatch.setattr(locks, "PATIENCE", 0.01)
    monkeypatch.setattr(locks, "LIMIT", 0.05)
    database = workspace / "mlflow.db"
    with (
        caplog.at_level(logging.WARNING),
        one_at_a_time(workspace / "mlflow.db.lock", "it"),
        track(config(), "prepare") as tracker,
    ):
        assert not tracker.enabled
    assert (
        f"cannot be used: The database {database} is in use by process {os.getpid()}" in caplog.text
    )
    assert "The stage continues without tracking" in caplog.text


def test_the_lock_of_a_database_is_beside_it_wherever_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.db").symlink_to(tmp_path / "mlflow.db")
    named = (
        "sqlite:///mlflow.db",
        f"sqlite:///{tmp_path}/mlflow.db?timeout=1",
        "sqlite:///link.db",
    )
    assert {get_database(uri) for uri in named} == {tmp_path / "mlflow.db"}
    assert get_database("http://127.0.0.1:5000") is None and get_database("sqlite://") is None


CREATE = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from stages.core.tracking.store import lock_store

@event.listens_for(Engine, "before_cursor_execute")
def die(connection, cursor, statement, *_):
    if "INSERT INTO _alembic_tmp" in statement:
        os.kill(os.getpid(), signal.SIGKILL)

with lock_store(sys.argv[1]):
    pass
"""


def test_a_kill_while_the_tables_are_created_leaves_a_store_that_works(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    killed = subprocess.run(
        [sys.executable, "-c", CREATE, uri],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    from mlflow import MlflowClient

    with lock_store(uri):
        assert MlflowClient(uri).search_experiments()
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}
