"""Too many requests, clients that leave, and the log of what was asked."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import orjson
import pytest

from services.serve.admission import read_keys
from services.serve.request_log import RequestLog
from services.serve.settings import ServeConfig
from stages.core.config.words import parse_words
from stages.core.data.records import SPLITS, Record, read_records
from stages.core.errors import UserError
from stages.prepare.__main__ import main as prepare
from tests.conftest import TINY, compose_config
from tests.services.serve.conftest import ALIAS, running, until

USER = [{"role": "user", "content": "Say 1."}]
LONG = {"model": ALIAS, "messages": USER, "max_tokens": 400, "temperature": 1.9}


def count(server, name):
    text = server.get("/metrics").text
    return float(next(x.split()[1] for x in text.split("\n") if x.startswith(f"tuneproof_{name} ")))


def hold_back(server, monkeypatch):
    """Let the engine write nothing until the returned event is set."""
    going = threading.Event()
    engine = server.follower.current.model.engine
    plain = engine._manager.batch_processor._generation_step

    def step(model):
        going.wait(20)
        return plain(model)

    monkeypatch.setattr(engine._manager.batch_processor, "_generation_step", step)
    return going


def test_too_many_requests_are_refused_before_the_engine_is_asked(registry, monkeypatch):
    with running(registry, max_running=2, max_waiting=3) as server:
        going = hold_back(server, monkeypatch)
        client = server.client()
        with ThreadPoolExecutor(5) as pool:
            asked = [
                pool.submit(client.chat.completions.create, model=ALIAS, messages=USER)
                for _ in range(5)
            ]
            until(lambda: count(server, "running") == 5)
            with pytest.raises(openai.RateLimitError) as refused:
                client.chat.completions.create(model=ALIAS, messages=USER)
            assert refused.value.code == "rate_limit_exceeded"
            assert refused.value.response.headers["retry-after"] == "1"
            going.set()
            assert all(future.result().choices for future in asked)
        assert count(server, "running") == 0
        assert client.chat.completions.create(model=ALIAS, messages=USER, n=5).choices
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model=ALIAS, messages=USER, n=6)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_cancelled_when_its_client_leaves(registry, monkeypatch, stream):
    with running(registry) as server:
        going = hold_back(server, monkeypatch)
        scheduler = server.follower.current.model.engine._manager.batch_processor.scheduler
        with pytest.raises(openai.APITimeoutError):
            server.client(timeout=0.3).chat.completions.create(
                model=ALIAS, messages=USER, stream=stream
            )
        until(lambda: count(server, "running") == 0)
        going.set()
        until(lambda: not scheduler.active_requests and not scheduler.waiting_requests)
        assert count(server, "cancelled_total") == 1
        manager = server.follower.current.model.engine._manager
        assert not manager.output_router.result_handlers
        assert not server.follower.current.in_use
        # Nginx's status of a client that has left is no failure of the server.
        found = server.get("/metrics").text
        assert 'status="500"' not in found and ('status="499"' in found or stream)


def test_a_client_that_leaves_while_its_text_is_encoded_frees_its_place(registry, monkeypatch):
    with running(registry) as server:
        model = server.follower.current.model
        going = threading.Event()
        honest = model._encode
        monkeypatch.setattr(model, "_encode", lambda messages: going.wait(30) and honest(messages))
        clients = [server.client(timeout=0.3) for _ in range(3)]
        for client in clients:
            with pytest.raises(openai.APITimeoutError):
                client.chat.completions.create(model=ALIAS, messages=USER)
        until(lambda: count(server, "running") == 0)
        going.set()
        assert server.ask(USER)["choices"]


def test_a_text_that_is_too_long_for_any_tokens_is_not_encoded(registry, monkeypatch):
    with running(registry) as server:
        monkeypatch.setattr(server.follower.current.model, "_encode", None)
        said = server.ask([{"role": "user", "content": "x" * 900_000}])["error"]
        assert said["code"] == "context_length_exceeded" and "900000 characters" in said["message"]


def test_what_comes_for_clients_that_left_is_dropped(registry):
    with running(registry) as server:
        for _ in range(5):
            stream = server.client().chat.completions.create(**LONG, stream=True)
            assert next(iter(stream)).choices
            stream.close()
        until(lambda: count(server, "running") == 0)
        server.ask(USER)
        engine = server.follower.current.model.engine
        assert engine._manager.output_router.output_queue.empty()


def test_a_long_list_of_wrong_values_is_refused_at_the_first(registry):
    with running(registry) as server:
        for body in ({"messages": [1] * 200_000}, {"messages": USER, "stop": [1] * 200_000}):
            started = time.process_time()
            said = server.post("/v1/chat/completions", {"model": ALIAS, **body})
            assert said.status_code == 400 and said.json()["error"]["code"] == "invalid_type"
            assert time.process_time() - started < 2  # it took 3 to 6 seconds
        said = server.ask(USER, seed=2**63)["error"]
        assert said["param"] == "seed"


def test_a_full_disk_takes_no_answer(registry, caplog):
    with running(registry, log_requests="/dev/full") as server:
        assert server.ask(USER)["choices"]
        assert count(server, "log_errors_total") == 1
    assert "log_requests: No space left on device" in caplog.text


def test_a_stream_that_is_closed_midway_is_cancelled(registry):
    with running(registry) as server:
        stream = server.client().chat.completions.create(**LONG, stream=True)
        assert next(iter(stream)).choices
        stream.close()
        until(lambda: count(server, "running") == 0)
        assert count(server, "completion_tokens_total") == 0


def test_an_engine_that_fails_says_so_and_is_loaded_anew(registry, monkeypatch):
    with running(registry) as server:
        failed = server.follower.current.model.engine

        def fail(_):
            raise ValueError("a text of a client")

        monkeypatch.setattr(failed._manager.batch_processor, "_generation_step", fail)
        said = server.post("/v1/chat/completions", {"model": ALIAS, "messages": USER})
        assert (said.status_code, said.json()["error"]["code"]) == (503, "engine_failed")
        assert "client" not in said.text
        until(lambda: server.follower.current.model.engine is not failed)
        assert server.ask(USER)["choices"] and server.get("/health").json()["ready"]


def test_chats_are_logged_as_records_without_secrets_if_asked_for(registry, tmp_path):
    log = tmp_path / "chats.jsonl"
    log.write_text("")
    log.chmod(0o644)  # made by somebody else
    key = "AKIA" + "IOSFODNN7EXAMPLQ"
    secret = f"my key is {key}, say 1"
    with running(registry, log_requests=str(log)) as server:
        found = server.ask([{"role": "user", "content": secret, "name": key}])
        server.post(
            "/v1/chat/completions", {"model": ALIAS, "messages": USER, "stream": True}
        ).read()
    records = [Record.load(line) for line in log.read_bytes().splitlines()]
    assert [record.question for record in records] == ["my key is ***, say 1", "Say 1."]
    assert records[0].target == found["choices"][0]["message"]["content"]
    assert records[0] == Record.of(records[0].messages, meta=records[0].meta)
    assert records[0].meta == {"version": found["model"], "finish_reason": "length"}
    assert log.stat().st_mode & 0o777 == 0o600 and key not in log.read_text()


def test_prepare_reads_the_log_of_chats(workspace):
    log = RequestLog(workspace / "rows.jsonl")
    for n in range(40):
        asked = [{"role": "user", "content": f"What is {'so ' * (n % 7)}{n}?"}]
        log.write(asked, f"number {n}", {"version": "a/1", "finish_reason": "stop"})
    log.close()
    prepare(compose_config(*TINY))
    records = [record for split in SPLITS for record in read_records(split)]
    assert {"What is 0?", "What is so 1?"} <= {record.question for record in records}


def test_a_line_that_the_disk_did_not_take_whole_is_an_error_and_alone(workspace, monkeypatch):
    log = RequestLog(workspace / "rows.jsonl")
    honest = os.write
    asked = [{"role": "user", "content": "Hello."}]
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, line: honest(file, line[:10]))
        with pytest.raises(OSError, match="No space left"):
            log.write(asked, "lost", {})
    log.write(asked, "kept", {})
    log.close()
    torn, whole = (workspace / "rows.jsonl").read_bytes().splitlines()
    assert len(torn) == 10 and orjson.loads(whole)["messages"][1]["content"] == "kept"


def test_nothing_is_logged_unless_asked_for(registry, tmp_path, caplog, capfd):
    with running(registry) as server, caplog.at_level("DEBUG", "services"):
        server.ask([{"role": "user", "content": "a very private text"}])
    assert "private" not in caplog.text + "".join(capfd.readouterr())


def test_a_host_that_others_can_reach_needs_keys():
    opened = ServeConfig(model=ALIAS, host="0.0.0.0")  # noqa: S104
    with pytest.raises(UserError, match=r"host=0\.0\.0\.0 can be reached from other machines"):
        read_keys(opened, {})
    assert len(read_keys(opened, {"TUNEPROOF_API_KEYS": "a, b"})) == 2
    for host in ("127.0.0.1", "localhost", "::1", "127.3.2.1"):
        assert read_keys(ServeConfig(model=ALIAS, host=host), {}) == []
    with pytest.raises(UserError, match="is set, but has no key"):
        read_keys(ServeConfig(model=ALIAS), {"TUNEPROOF_API_KEYS": " , "})


def test_words_set_values():
    words = ["model=models:/a/3", "port=0", "system_prompt=none", "poll_seconds=0.5"]
    found = parse_words(ServeConfig, [*words, "vllm_args=--gpu-memory-utilization 0.45"])
    assert (found.reference, found.port, found.system_prompt) == ("a/3", 0, "none")
    assert found.poll_seconds == 0.5 and found.host == "127.0.0.1"
    assert found.vllm_args == "--gpu-memory-utilization 0.45" and found.log_requests is None


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("port=x", "port: should be a valid integer"),
        ("port=70000", "port: should be less than or equal to 65535"),
        ("engine=tgi", "engine: should be 'auto', 'transformers' or 'vllm'"),
    ],
)
def test_a_wrong_value_is_refused(word, said):
    with pytest.raises(UserError, match=said):
        parse_words(ServeConfig, ["model=a@b", word])


def test_a_log_that_cannot_be_written_is_refused(registry, tmp_path):
    with (
        pytest.raises(UserError, match="cannot be written: No such file"),
        running(registry, log_requests=str(Path(tmp_path, "missing", "log.jsonl"))),
    ):
        pass


def test_without_keys_another_name_of_this_machine_is_refused(server, registry):
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", "10.0.0.1", "[", ""):
        said = server.get("/v1/models", headers={"Host": host})
        assert (said.status_code, said.json()["error"]["code"]) == (403, "host_not_allowed")
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"):
        assert server.get("/v1/models", headers={"Host": host}).status_code == 200
    with running(registry, keys="a") as keyed:
        headers = {"Host": "models.example", "Authorization": "Bearer a"}
        assert keyed.get("/v1/models", headers=headers).status_code == 200
