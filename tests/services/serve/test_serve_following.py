"""When the alias moves, the new version takes over, and no request is lost or mixed."""

import gc
import math
import tempfile
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow.store.artifact import local_artifact_repo

from services.serve import following
from tests.services.serve.conftest import ALIAS, NAME, add_version, move, running, until

USER = [{"role": "user", "content": "Say very 31."}]


def version(server):
    return server.get("/health").json()["version"]


def test_an_alias_that_moves_under_load_loses_no_request_and_mixes_no_answer(
    own_registry, tmp_path
):
    two = add_version(own_registry, tmp_path / "two")
    found = []
    ended = threading.Event()
    with running(own_registry) as server:

        def ask():
            while not ended.is_set():
                found.append(server.ask(USER))

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            for number in (two, "1", two):
                move(own_registry, number)
                until(lambda number=number: version(server) == number)
            ended.set()
            [each.result() for each in asking]
        follower = server.follower
        until(lambda: not follower._retired)
    texts = {number: set() for number in ("1", two)}
    for answer in found:
        text = answer["choices"][0]["message"]["content"]
        texts[answer["model"].removeprefix(f"{NAME}/")].add(text)
    assert all(len(each) == 1 for each in texts.values()) and texts["1"] != texts[two]


def test_requests_in_flight_end_on_their_version_which_then_stops(own_registry, tmp_path):
    two = add_version(own_registry, tmp_path / "two")
    with running(own_registry) as server:
        weights = weakref.ref(server.follower.current.model.engine._manager.model)
        stream = server.client().chat.completions.create(
            model=ALIAS, messages=USER, stream=True, max_tokens=400, temperature=1.9
        )
        chunks = iter(stream)
        names = {next(chunks).model}
        move(own_registry, two)
        until(lambda: version(server) == two)
        assert server.ask(USER)["model"] == f"{NAME}/{two}"
        names |= {chunk.model for chunk in chunks}
        assert names == {f"{NAME}/1"}
        until(lambda: gc.collect() is None or weights() is None)


def test_a_version_that_does_not_match_its_hash_is_not_taken(own_registry, tmp_path):
    two = add_version(own_registry, tmp_path / "two", damaged=True)
    with running(own_registry) as server:
        move(own_registry, two)
        until(lambda: server.get("/health").json()["refused"])
        health = server.get("/health").json()
        assert (health["ready"], health["version"]) == (True, "1")
        assert health["refused"]["version"] == two
        assert "were changed after the registration" in health["refused"]["reason"]
        assert server.ask(USER)["model"] == f"{NAME}/1"
        assert f"tuneproof_refused_version {two}.0" in server.get("/metrics").text
        move(own_registry, "1")
        until(lambda: not server.get("/health").json()["refused"])


def test_a_version_that_does_not_load_is_not_taken_and_is_tried_again(
    own_registry, tmp_path, monkeypatch
):
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.3)
    folder = tmp_path / "two"
    two = add_version(own_registry, folder)
    aside = tmp_path / "aside"
    folder.rename(aside)
    with running(own_registry) as server:
        move(own_registry, two)
        until(lambda: server.get("/health").json()["refused"])
        assert server.ask(USER)["model"] == f"{NAME}/1"
        aside.rename(folder)
        until(lambda: version(server) == two)
        assert server.get("/health").json()["refused"] is None


def test_a_version_that_loads_after_the_end_is_stopped(own_registry, tmp_path):
    started = threading.Event()
    going = threading.Event()
    two = add_version(own_registry, tmp_path / "two")
    loaded = []
    with running(own_registry) as server:
        honest = server.follower._load

        def load():
            started.set()
            going.wait(30)
            loaded.append(honest())
            return loaded[0]

        server.follower._load = load
        move(own_registry, two)
        until(started.is_set)
        threading.Timer(0.5, going.set).start()
    until(lambda: loaded and not loaded[0].model.is_alive())
    assert len(loaded) == 1


def test_an_error_of_an_engine_that_stops_does_not_end_the_look_out(own_registry, tmp_path):
    two = add_version(own_registry, tmp_path / "two")
    with running(own_registry) as server:
        model = server.follower.current.model
        honest = model.stop

        def fail():
            honest()
            raise OSError("it does not stop")

        model.stop = fail
        move(own_registry, two)
        until(lambda: version(server) == two)
        move(own_registry, "1")
        until(lambda: version(server) == "1")
        assert server.ask(USER)["model"] == f"{NAME}/1"


def test_the_time_to_the_next_try_doubles(own_registry, tmp_path, monkeypatch):
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.1)
    two = add_version(own_registry, tmp_path / "two", damaged=True)
    with running(own_registry) as server:
        move(own_registry, two)
        until(lambda: server.follower.refused and server.follower.refused.seconds > 0.3)
        assert math.log2(server.follower.refused.seconds / 0.1).is_integer()


def test_the_files_of_a_server_are_removed_when_their_version_is_stopped(
    own_registry, tmp_path, monkeypatch
):
    """The store is made to look like one of a server, from which files are downloaded."""
    damaged = add_version(own_registry, tmp_path / "two", damaged=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(local_artifact_repo, "LocalArtifactRepository", type("Other", (), {}))

    def list_downloads():
        return list(tmp_path.glob("tuneproof-model-*"))

    with running(own_registry) as server:
        assert len(list_downloads()) == 1
        move(own_registry, damaged)
        until(lambda: server.follower.refused)
        assert len(list_downloads()) == 1
    assert not list_downloads()


def test_a_registry_that_cannot_be_read_harms_no_request(own_registry):
    with running(own_registry) as server:
        client = own_registry.connect()
        client.delete_registered_model_alias(NAME, "champion")
        until(lambda: server.get("/health").json()["registry_error"])
        assert "Versions: 1" in server.get("/health").json()["registry_error"]
        assert server.ask(USER)["choices"] and server.get("/health").status_code == 200
        move(own_registry, "1")
        until(lambda: not server.get("/health").json()["registry_error"])


def test_a_number_is_not_followed(own_registry, tmp_path):
    two = add_version(own_registry, tmp_path / "two")
    with running(own_registry, model=f"{NAME}/1") as server:
        move(own_registry, two)
        with pytest.raises(AssertionError):
            until(lambda: version(server) == two, seconds=1)
        assert server.ask(USER)["error"]["code"] == "model_not_found"
