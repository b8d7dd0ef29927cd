"""The lock in the registry, which works across machines."""

import json
import os
import socket

import pytest

from stages.core.storage.locks import LockTimeoutError, describe_this_process
from stages.register import lock
from stages.register.lock import HOLDER, TOKEN, lock_model

NAME = "a model"


@pytest.fixture
def client(workspace, copy_tables):
    from mlflow import MlflowClient

    return MlflowClient(copy_tables(workspace / "mlflow.db"))


@pytest.fixture
def slept(monkeypatch):
    """The seconds of every sleep. Time passes only in these, however slow the machine is."""
    seconds = []

    class Clock:
        monotonic = staticmethod(lambda: 1_000.0 + sum(seconds))
        sleep = staticmethod(seconds.append)

    monkeypatch.setattr(lock, "time", Clock)
    return seconds


def list_models(client):
    return [model.name for model in client.search_registered_models()]


def leave_lock(client, *, host, token="old", **more):  # noqa: S107  (no secret)
    """What a killed process leaves. Linux gives no process such an id."""
    holder = describe_this_process() | {"pid": 2**22 + 1, "host": host} | more
    tags = {TOKEN: token, HOLDER: json.dumps(holder)}
    client.create_registered_model(f"{NAME}.lock", tags=tags)


def test_the_lock_is_there_during_the_block_and_then_gone(client):
    with lock_model(client, NAME) as still_held:
        assert list_models(client) == [f"{NAME}.lock"]
        still_held()
    assert list_models(client) == []
    with pytest.raises(LockTimeoutError, match="was lost"):
        still_held()


def test_who_waits_too_long_is_told_who_holds_it(client, monkeypatch, caplog, slept):
    monkeypatch.setattr(lock, "LIMIT", 2 * lock.PATIENCE)
    who = f"The model {NAME} in the registry is in use by process {os.getpid()} on"
    with (
        lock_model(client, NAME),
        pytest.raises(LockTimeoutError, match=who),
        lock_model(client, NAME),
    ):
        pass
    assert caplog.text.count(who) == 1
    assert lock.LIMIT <= sum(slept) < lock.LIMIT + 1
    assert list_models(client) == []


def test_the_lock_of_a_process_that_was_killed_on_this_machine_is_taken_over_at_once(client):
    leave_lock(client, host=socket.gethostname())
    with lock_model(client, NAME) as still_held:
        still_held()
    assert list_models(client) == []


@pytest.mark.parametrize(
    "where",
    [{"host": "elsewhere"}, {"host": socket.gethostname(), "kernel": "that of another container"}],
)
def test_the_lock_of_a_process_on_another_machine_is_taken_over_after_its_lease(
    client, slept, where
):
    leave_lock(client, **where)
    with lock_model(client, NAME) as still_held:
        still_held()
    assert lock.LEASE <= sum(slept) < lock.LEASE + 1
    assert list_models(client) == []


def test_only_one_of_two_waiting_processes_takes_a_lock_away(client):
    leave_lock(client, host="elsewhere")
    assert lock._take_away(client, f"{NAME}.lock", "old") == [f"{NAME}.lock.old"]
    leave_lock(client, host="elsewhere", token="new")  # noqa: S106  (no secret)
    assert lock._take_away(client, f"{NAME}.lock", "old") == []
    assert client.get_registered_model(f"{NAME}.lock").tags[TOKEN] == "new"


def test_an_error_of_the_registry_is_not_taken_for_a_lock(client):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="Names cannot contain"), lock_model(client, "a/b"):
        pass
