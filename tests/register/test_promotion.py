"""Two registrations at once, and a registry that fails in the middle of one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import pytest

from stages.core.errors import UserError
from stages.core.storage.locks import LockTimeoutError
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.tracker import track
from stages.register import promotion, registration
from stages.register.condition import Condition
from stages.register.history import read_history
from stages.register.promotion import UNFINISHED, promote
from stages.register.registry import find_champion, has_version
from tests.conftest import ROOT, TINY

NAME = "tuneproof-chat-jsonl"
CONDITIONS = [Condition("champion", True, "It is better.", 0.12, 0.08, 0.0)]


@pytest.fixture
def server(tmp_path, copy_tables):
    """The address of a tracking server, as several machines share one."""
    port = find_port()
    store = ["--backend-store-uri", copy_tables(tmp_path / "server.db")]
    command = ["mlflow", "server", *store, "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--workers", "1"],
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def find_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(address, seconds=60):
    end = time.monotonic() + seconds
    while True:
        try:
            return urllib.request.urlopen(address).read()  # noqa: S310  (an address on loopback)
        except OSError:
            assert time.monotonic() < end, f"{address} does not answer"
            time.sleep(0.1)


@pytest.fixture
def start(tmp_path):
    """Start the registration of a made-up model, from a folder of its own on a shared registry."""
    started = []

    def start(value, uri):
        folder = tmp_path / str(value)
        folder.mkdir()
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


def test_the_better_of_two_at_once_ends_as_champion_and_the_other_is_told_why(
    start, tmp_path, copy_tables
):
    from mlflow import MlflowClient

    uri = copy_tables(tmp_path / "shared.db")
    first, second, third = (start(value, uri) for value in (0.6, 0.9, 0.7))
    for process in (first, second, third):
        assert process.stdout.readline() == "compared\n"  # with no champion, all three of them
    version, sentence, _ = finish(first)
    assert version == "1" and "alias champion" in sentence
    version, _, reasons = finish(second)
    assert version == "2" and reasons == ["0.9 against 0.6 of version 1"]
    version, sentence, reasons = finish(third)
    assert version is None and sentence == "the gate is closed"
    assert reasons == ["0.7 against 0.9 of version 2"]
    client = MlflowClient(uri)
    assert [model.name for model in client.search_registered_models()] == [NAME]  # no lock is left
    assert str(client.get_model_version_by_alias(NAME, "champion").version) == "2"
    assert len(client.search_model_versions(f"name='{NAME}'")) == 2
    found = client.search_logged_models([client.get_experiment_by_name("tuneproof").experiment_id])
    assert len(found) == 2  # that of the third is gone


def test_of_two_on_one_server_the_loser_is_told_so_and_no_move_is_lost(start, server):
    from mlflow import MlflowClient

    processes = [start(value, server) for value in (0.9, 0.7)]
    for process in processes:
        assert process.stdout.readline() == "compared\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    (version, _, _), (_, sentence, reasons) = (
        json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in processes
    )
    client = MlflowClient(server)
    assert client.get_model_version_by_alias(NAME, "champion").version == version
    moves = [(move.replaced, move.version) for move in read_history(client, NAME)["champion"]]
    if version == "1":
        assert sentence == "the gate is closed" and reasons == ["0.7 against 0.9 of version 1"]
        assert moves == [(None, "1")]
    else:  # the worse one was faster
        assert moves == [(None, "1"), ("1", "2")]
    assert [model.name for model in client.search_registered_models()] == [NAME]  # no lock is left


@pytest.fixture
def store(config, workspace, monkeypatch):
    """The registry of a workspace, with functions that add versions to it."""
    import mlflow

    monkeypatch.setattr(promotion, "add_front_matter", lambda card, *_: card)
    monkeypatch.setattr(promotion, "lineage_tags", lambda _, report: {PREFIX + "id": report["id"]})
    checked = config("register=one-task")
    candidate = SimpleNamespace(config=checked)
    with track(checked, "register") as tracker:
        client = mlflow.MlflowClient()

        def log():
            model = client.create_logged_model(tracker._experiment, "made-up")
            client.finalize_logged_model(model.model_id, "READY")
            return model.model_id

        def put(champion, name="new", card="the card"):
            return promote(candidate, log(), {"id": name}, card, CONDITIONS, champion)

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


def put_rival(client):
    """What somebody does in the UI, without the lock."""
    version = client.create_model_version(NAME, "rival").version
    client.set_registered_model_alias(NAME, "champion", version)


@pytest.mark.parametrize(
    "moment", ["update_model_version", "set_registered_model_alias"], ids=["before", "after"]
)
def test_a_champion_that_is_set_by_hand_around_the_alias_stays(store, monkeypatch, moment):
    from mlflow import MlflowClient

    store.put(None)
    honest = getattr(MlflowClient, moment)

    def overtaken(client, *given):
        honest(client, *given)
        monkeypatch.setattr(MlflowClient, moment, honest)
        put_rival(client)

    monkeypatch.setattr(MlflowClient, moment, overtaken)
    assert store.put(store.champion()) is None
    assert store.champion().number == "3" and store.versions() == ["1", "3"]


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
    assert store.champion().number == "1" and store.versions() == ["1"]
    assert [move.version for move in read_history(store.client, NAME)["champion"]] == ["1"]


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


def test_a_process_that_stood_still_and_lost_the_lock_sets_no_alias(store, monkeypatch):
    """The next holder of the lock deletes its version, and MLflow refuses an alias for that."""
    from mlflow import MlflowClient

    store.put(None)
    honest = MlflowClient.set_registered_model_alias

    def overtaken(client, name, alias, version):
        monkeypatch.setattr(MlflowClient, "set_registered_model_alias", honest)
        client.delete_registered_model(f"{NAME}.lock")  # its lease has ended
        assert store.put(store.champion(), "the faster one") == "3"
        honest(client, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", overtaken)
    with pytest.raises(Exception, match=r"Model Version .*version=2.* not found"):
        store.put(store.champion())
    assert store.champion().number == "3" and store.versions() == ["1", "3"]
    moves = read_history(store.client, NAME)["champion"]
    assert [(move.version, move.replaced) for move in moves] == [("1", None), ("3", "1")]


def test_a_lock_that_is_lost_before_the_alias_registers_nothing(store, monkeypatch):
    from mlflow import MlflowClient

    store.put(None)
    honest = MlflowClient.update_model_version

    def overtaken(client, *given):
        honest(client, *given)
        client.delete_registered_model(f"{NAME}.lock")

    monkeypatch.setattr(MlflowClient, "update_model_version", overtaken)
    with pytest.raises(LockTimeoutError, match=f"the lock of {NAME} in the registry was lost"):
        store.put(store.champion())
    assert store.champion().number == "1" and store.versions() == ["1"]


def test_a_card_that_is_too_long_for_a_description_is_whole_beside_the_model(store):
    import mlflow

    card = "# A model\n\n" + "A sentence about it.\n" * 500
    assert store.put(None, card=card) == "1"
    found = store.client.get_model_version(NAME, "1").description
    assert len(found) <= 5_000 and found.startswith("# A model\n")
    assert found.endswith("The whole card is the artifact model_card.md of this model.")
    assert mlflow.artifacts.load_text(f"models:/{NAME}/1/model_card.md") == card


def test_the_conditions_of_the_gate_are_tags_of_the_version(store):
    store.put(None)
    tags = store.client.get_model_version(NAME, "1").tags
    assert tags["tuneproof.gate.champion"] == "passed: 0.12, bound 0.08, limit 0"


@pytest.fixture
def steps(store, monkeypatch):
    """`register` with a model that is always better, and a log of what it did."""
    done = []
    monkeypatch.setattr(registration, "hash_served", lambda *_: "new")
    monkeypatch.setattr(registration, "render_card", lambda *_: "card")

    def log(registration):
        done.append("logged")
        registration._model_id = "id"
        registration._round_trip = Condition("round_trip", True, "same")

    monkeypatch.setattr(registration._Registration, "_log", log)
    monkeypatch.setattr(registration, "delete_model", lambda _: done.append("deleted"))
    monkeypatch.setattr(
        registration, "check_champion", lambda *_: [Condition("champion", True, "better")]
    )

    def run(promoted):
        monkeypatch.setattr(registration, "promote", promoted)
        candidate = SimpleNamespace(config=store.config)
        report = {"lineage": {"dtype": "float32"}, "forgetting": None}
        return registration.register(candidate, report, [], store.tracker), done

    run.done = done
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


def test_an_error_after_the_move_of_the_alias_loses_nothing(store, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def broken(*_):
        raise MlflowException("lost")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "delete_model_version_tag", broken)
        assert store.put(None) == "1"
    assert store.champion().number == "1"
    assert store.put(store.champion()) == "2"
    assert store.versions() == ["1", "2"]  # the next one says of the first that it is finished


def test_a_logged_model_that_became_a_version_is_not_deleted(steps, store, monkeypatch):
    """Ctrl-C while the lock is given back, after the alias has moved."""
    monkeypatch.setattr(
        registration, "has_version", lambda name, model: (name, model) == (NAME, "id")
    )

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steps(interrupt)
    assert steps.done == ["logged"]


def test_the_version_of_a_logged_model_is_found(store, monkeypatch):
    from mlflow import MlflowClient

    store.put(None)
    model_id = store.champion().model_id
    assert has_version(NAME, model_id) and not has_version(NAME, "m-other")
    assert not has_version("nobody", model_id)

    def broken(*_, **__):
        raise ConnectionError("lost")

    monkeypatch.setattr(MlflowClient, "search_model_versions", broken)
    assert has_version(NAME, "m-other")  # nobody knows
