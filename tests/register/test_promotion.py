"""Two registrations at once, and a registry that fails in the middle of one."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from stages.core.errors import UserError
from stages.core.storage import locks
from stages.core.storage.locks import LockTimeoutError, one_at_a_time
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.tracker import track
from stages.register import promotion, registration
from stages.register.gate import Condition
from stages.register.promotion import UNFINISHED, promote
from stages.register.registry import find_champion
from tests.conftest import ROOT, TINY

NAME = "tuneproof-chat-jsonl"


@pytest.fixture
def start(tmp_path):
    """Start the registration of a made-up model, from a folder of its own on a shared database."""
    started = []

    def start(value):
        folder = tmp_path / str(value)
        folder.mkdir()
        uri = f"sqlite:///{tmp_path / 'shared.db'}"
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.register.races", str(value), *TINY],
            cwd=folder,
            env=os.environ
            | {"MLFLOW_TRACKING_URI": uri, "DVC_ROOT": str(folder), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def finish(process):
    """Let a registration go on, and read its outcome."""
    said, _ = process.communicate("\n", timeout=300)
    return json.loads(said.splitlines()[-1])


def test_the_better_of_two_at_once_ends_as_champion_and_the_other_is_told_why(start, tmp_path):
    from mlflow import MlflowClient

    first, second, third = (start(value) for value in (0.6, 0.9, 0.7))
    for process in (first, second, third):
        assert process.stdout.readline() == "compared\n"  # with no champion, all three of them
    version, sentence, _ = finish(first)
    assert version == "1" and "alias champion" in sentence
    version, _, reasons = finish(second)
    assert version == "2" and reasons == ["0.9 against 0.6 of version 1"]
    version, sentence, reasons = finish(third)
    assert version is None and sentence == "the gate is closed"
    assert reasons == ["0.7 against 0.9 of version 2"]
    client = MlflowClient(f"sqlite:///{tmp_path / 'shared.db'}")
    assert client.get_model_version_by_alias(NAME, "champion").version == 2
    assert len(client.search_model_versions(f"name='{NAME}'")) == 2
    found = client.search_logged_models([client.get_experiment_by_name("tuneproof").experiment_id])
    assert len(found) == 2  # that of the third is gone


@pytest.fixture
def store(config, workspace, monkeypatch):
    """The registry of a workspace, with functions that add versions to it."""
    import mlflow

    monkeypatch.setattr(promotion, "lineage_tags", lambda _, report: {PREFIX + "id": report["id"]})
    checked = config("register=one-task")
    candidate = SimpleNamespace(config=checked)
    with track(checked, "register") as tracker:
        client = mlflow.MlflowClient()

        def log():
            model = client.create_logged_model(tracker._experiment, "made-up")
            client.finalize_logged_model(model.model_id, "READY")
            return model.model_id

        def put(champion, name="new"):
            return promote(candidate, log(), {"id": name}, "the card", champion)

        yield SimpleNamespace(
            client=client,
            config=checked,
            put=put,
            champion=lambda: find_champion(checked),
            versions=lambda: sorted(
                str(found.version) for found in client.search_model_versions(f"name='{NAME}'")
            ),
            tracker=tracker,
        )


def test_a_version_gets_the_card_and_the_alias_and_is_finished(store):
    assert store.put(None) == "1"
    found = store.client.get_model_version_by_alias(NAME, "champion")
    assert str(found.version) == "1" and found.description == "the card"
    assert UNFINISHED not in found.tags and found.tags[PREFIX + "id"] == "new"
    assert store.put(None) is None  # compared with no champion, but now there is one
    assert store.put(store.champion()) == "2" and store.versions() == ["1", "2"]


def on_a_server(monkeypatch):
    monkeypatch.setattr(promotion, "get_database", lambda _: None)


def put_rival(client):
    """What a process on another machine does."""
    version = client.create_model_version(NAME, "rival").version
    client.set_registered_model_alias(NAME, "champion", version)


@pytest.mark.parametrize(
    "moment", ["update_model_version", "set_registered_model_alias"], ids=["before", "after"]
)
def test_a_champion_of_a_server_that_changes_around_the_alias_stays(store, monkeypatch, moment):
    from mlflow import MlflowClient

    on_a_server(monkeypatch)
    store.put(None)
    honest = getattr(MlflowClient, moment)

    def overtaken(client, *given):
        honest(client, *given)
        monkeypatch.setattr(MlflowClient, moment, honest)
        put_rival(client)

    monkeypatch.setattr(MlflowClient, moment, overtaken)
    assert store.put(store.champion()) is None
    assert store.champion().version == "3" and store.versions() == ["1", "3"]


@pytest.mark.parametrize("late", [False, True], ids=["before it is set", "after it is set"])
def test_nothing_is_left_of_an_alias_that_fails(store, monkeypatch, late):
    from mlflow import MlflowClient

    store.put(None)
    honest = MlflowClient.set_registered_model_alias

    def broken(client, *given):
        if late:
            honest(client, *given)
        monkeypatch.setattr(MlflowClient, "set_registered_model_alias", honest)
        raise ConnectionError("lost")

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", broken)
    with pytest.raises(ConnectionError):
        store.put(store.champion())
    assert store.champion().version == "1" and store.versions() == ["1"]


def test_a_version_that_cannot_be_removed_is_named_with_the_command(store, monkeypatch):
    from mlflow import MlflowClient

    def broken(*_):
        raise ConnectionError("lost")

    with monkeypatch.context() as patch:
        for name in ("update_model_version", "delete_model_version"):
            patch.setattr(MlflowClient, name, broken)
        with pytest.raises(UserError, match=f"version 1 of {NAME} remains") as error:
            store.put(None)
    assert store.versions() == ["1"]
    command = next(line.strip() for line in str(error.value).splitlines() if "python -c" in line)
    code = command.removeprefix('python -c "').removesuffix('"')
    exec(code, {})  # noqa: S102  (the command that the message gives)
    assert store.versions() == []


def test_what_a_killed_process_left_goes_and_what_it_finished_stays(store, monkeypatch):
    store.put(None)
    store.client.set_model_version_tag(
        NAME, "1", UNFINISHED, "true"
    )  # killed right after the alias
    store.client.create_model_version(NAME, "x", tags={UNFINISHED: "true"})  # killed before it
    assert store.put(store.champion()) == "3"
    assert store.put(store.champion()) == "4"
    assert store.versions() == ["1", "3", "4"]
    on_a_server(monkeypatch)
    store.client.create_model_version(NAME, "x", tags={UNFINISHED: "true"})
    assert store.put(store.champion()) == "6"
    assert "5" in store.versions()  # it may belong to a process that still runs


def test_a_lock_that_another_process_holds_is_said(store, workspace, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.01)
    monkeypatch.setattr(locks, "LIMIT", 0.05)
    with (
        one_at_a_time(workspace / "mlflow.db.lock", "it"),
        pytest.raises(LockTimeoutError, match=f"mlflow.db is in use by process {os.getpid()} on"),
    ):
        store.put(None)
    assert store.versions() == []


@pytest.fixture
def steps(store, monkeypatch):
    """`register` with a model that is always better, and a log of what it did."""
    done = []
    monkeypatch.setattr(registration, "hash_served", lambda *_: "new")
    monkeypatch.setattr(registration, "render_card", lambda *_: "card")
    monkeypatch.setattr(registration, "_log", lambda *_: done.append("logged") or "id")
    monkeypatch.setattr(registration, "delete_model", lambda _: done.append("deleted"))
    monkeypatch.setattr(registration, "check_champion", lambda *_: [Condition(True, "better")])

    def run(promoted):
        monkeypatch.setattr(registration, "promote", promoted)
        candidate = SimpleNamespace(config=store.config)
        report = {"lineage": {"measured_sha256": {}}, "forgetting": None}
        return registration.register(candidate, report, [], store.tracker), done

    return run


def test_a_champion_that_always_changes_ends_the_comparisons(steps):
    tried = []
    found, done = steps(lambda *_: tried.append(1))
    assert len(tried) == registration.TRIES and done == ["logged", "deleted"]
    assert found.version is None and "the champion changed 5 times" in found.sentence


def test_a_refusal_of_the_registry_is_said_and_the_model_deleted(steps):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    def refuse(*_):
        raise MlflowException("Not for you.", PERMISSION_DENIED)

    found, done = steps(refuse)
    assert done == ["logged", "deleted"] and found.version is None
    assert "mlflow.db refused with PERMISSION_DENIED: Not for you." in found.sentence
    assert "dvc repro --force --single-item register" in found.sentence
