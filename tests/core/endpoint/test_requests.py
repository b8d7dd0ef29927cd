import json
import logging
import os
import subprocess
import sys
import threading
from itertools import count

import pytest

from stages.core.config.prompt import Endpoint
from stages.core.endpoint.requests import Request, chat, to_api
from stages.core.errors import UserError
from tests.chat_server import ChatServer, completion, failure
from tests.conftest import ROOT

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ChatServer(lambda body: completion("said " + question(body), body)) as server:
        yield server


def question(body):
    return body["messages"][-1]["content"]


def request(text):
    return Request([{"role": "user", "content": text}], 16, 7)


def ask(server, *texts, **changes):
    return chat(
        Endpoint(**server.settings(**changes)), [request(text) for text in texts], "prompt.remote"
    )


def refused(server, **changes):
    with pytest.raises(UserError) as error:
        ask(server, "hello there", **changes)
    return str(error.value)


def test_a_chat_is_asked_greedily_and_its_reply_is_read(server):
    server.delay = 0.05
    (reply,) = ask(server, "hello there")
    sent = {"model": "big", "messages": [{"role": "user", "content": "hello there"}]}
    assert server.bodies == [sent | {"max_tokens": 16, "temperature": 0, "seed": 7}]
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("said hello there", 2, 3)
    assert (reply.model, reply.fingerprint, reply.cut) == ("big-0601", "fp_1", False)
    assert 0.05 <= reply.seconds < 40  # and no milliseconds


def test_many_chats_keep_their_order_and_no_more_than_allowed_go_at_a_time(server):
    three = threading.Barrier(3)
    sound = server.respond

    def respond(body):
        three.wait(60)  # no answer before three are asked for
        return sound(body)

    server.respond = respond
    texts = [f"number {n}" for n in range(21)]
    assert [reply.text for reply in ask(server, *texts, max_concurrency=3)] == [
        f"said {text}" for text in texts
    ]
    assert server.most_in_flight == 3


def test_nothing_is_asked_twice(server):
    first = ask(server, "a", "b", "a")
    assert len(server.bodies) == 2 and first[0] == first[2]
    assert ask(server, "b", "a", timeout=9, max_retries=3, max_concurrency=1) == [
        first[1],
        first[0],
    ]  # the seconds too
    assert len(server.bodies) == 2
    ask(server, "a", model="bigger")
    chat(Endpoint(**server.settings()), [Request([{"role": "user", "content": "a"}], 17, 7)], "x")
    assert len(server.bodies) == 4


def test_a_repeated_run_needs_neither_the_server_nor_the_key(server, monkeypatch):
    monkeypatch.setenv("THE_KEY", KEY)
    first = ask(server, "a", api_key_env="THE_KEY")
    monkeypatch.delenv("THE_KEY")
    server.respond = lambda body: failure(500, "down")
    assert ask(server, "a", api_key_env="THE_KEY") == first


def test_after_a_failure_only_what_is_missing_is_asked(server):
    sound = server.respond
    server.respond = lambda body: failure(400, "no") if question(body) == "3" else sound(body)
    with pytest.raises(UserError):
        ask(server, *"012345", max_concurrency=1)
    assert [question(body) for body in server.bodies] == list(
        "0123"
    )  # and no more once one has failed
    server.respond = sound
    assert [reply.text for reply in ask(server, *"012345", max_concurrency=1)] == [
        f"said {n}" for n in range(6)
    ]
    assert [question(body) for body in server.bodies] == list("0123345")


def test_after_a_kill_only_what_is_missing_is_asked(server):
    code = (
        "import json, sys; from stages.core.endpoint.requests import Request, chat\n"
        "from stages.core.config.prompt import Endpoint\n"
        "requests = [Request([{'role': 'user', 'content': c}], 16, 7) for c in '012345']\n"
        "chat(Endpoint(**json.loads(sys.argv[1])), requests, 'prompt.remote')"
    )
    asked = threading.Event()
    killed = threading.Event()
    sound = server.respond

    def respond(body):
        if question(body) == "3":
            asked.set()
            killed.wait(120)
        return sound(body)

    server.respond = respond
    settings = json.dumps(server.settings(max_concurrency=1))
    with subprocess.Popen(
        [sys.executable, "-c", code, settings], cwd=ROOT, env=os.environ.copy()
    ) as process:
        assert asked.wait(120)
        process.kill()
    killed.set()
    ask(server, *"012345", max_concurrency=1)
    assert [question(body) for body in server.bodies] == list("0123345")  # one was under way


@pytest.mark.parametrize(
    "mishap", [failure(429, "slow down"), failure(500, "oops"), failure(503, "busy"), (0, None)]
)
def test_what_may_pass_is_tried_again(server, mishap):
    sound = server.respond
    calls = count()
    server.respond = lambda body: mishap if next(calls) == 0 else sound(body)
    assert ask(server, "a", max_retries=1)[0].text == "said a" and len(server.bodies) == 2


@pytest.mark.parametrize(
    ("mishap", "said", "tries"),
    [
        (
            failure(429, "quota is used up"),
            "still refuses requests after 3 attempt(s): quota is used up. Lower",
            3,
        ),
        (
            failure(500, "CUDA error"),
            "failed in 3 attempt(s): CUDA error. Look at the server's log",
            3,
        ),
        (failure(401, f"bad key {KEY}"), "rejects the key in THE_KEY. Store a valid key", 1),
        (
            failure(403, "not in your country"),
            "denies access to the key in THE_KEY: not in your country",
            1,
        ),
        (failure(404, "no model big"), "was not found: no model big", 1),
        (
            failure(400, "maximum context is 4 tokens"),
            "rejects a request: maximum context is 4 tokens. If the request is",
            1,
        ),
        ((413, "too  large\n"), "rejects a request: too large.", 1),
        ((422, {"detail": "no dates"}), "rejects a request: no dates.", 1),
        ((400, {"reason": "no dates"}), "rejects a request: {'reason': 'no dates'}.", 1),
        (
            (200, "<html>Welcome</html>"),
            "does not answer in the format of OpenAI's API: '<html>Welcome</html>'",
            1,
        ),
        (
            (200, {"error": {"message": "upstream failed"}}),
            "not answer in the format of OpenAI's API: '{",
            1,
        ),
    ],
)
def test_what_goes_wrong_is_said_with_place_model_and_remedy(
    server, monkeypatch, mishap, said, tries
):
    monkeypatch.setenv("THE_KEY", KEY)
    server.respond = lambda body: mishap
    text = refused(server, api_key_env="THE_KEY", max_retries=2)
    assert (
        text.startswith("prompt.remote: ")
        and said in text
        and server.url in text
        and "\n" not in text
    )
    assert len(server.bodies) == tries


def test_a_server_that_is_slow_or_away_or_elsewhere(server):
    refuse = server.respond
    late = threading.Event()
    server.respond = lambda body: late.wait(60) and failure(500, "too late")
    said = refused(server, timeout=1)
    assert "big at" in said and "did not answer within 1 s" in said
    late.set()
    server.respond = refuse
    assert "cannot be reached: [Errno" in refused(server, base_url="http://127.0.0.1:9/v1")
    assert "was not found: no /v2/chat/completions here" in refused(
        server, base_url=server.url.replace("v1", "v2")
    )
    assert refused(server, base_url="http://host:port/v1").startswith(
        "prompt.remote.base_url: http://host:port/v1 cannot be used"
    )
    server.respond = lambda body: (0, None)
    assert (
        "cannot be reached: Server disconnected without sending a response. Check that the server is running"
        in refused(server)
    )


def test_a_key_that_is_missing_or_none_is_named_before_anything_is_sent(server, monkeypatch):
    monkeypatch.delenv("THE_KEY", raising=False)
    assert f"set the environment variable THE_KEY to the key of {server.url}" in refused(
        server, api_key_env="THE_KEY"
    )
    monkeypatch.setenv("THE_KEY", f"{KEY} {KEY}")
    text = refused(server, api_key_env="THE_KEY")
    assert "THE_KEY does not hold a valid key" in text and KEY not in text and not server.bodies


def test_the_package_that_is_missing_is_named(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    assert "`pip install -c constraints.txt --group remote`" in refused(server)


def test_the_key_goes_to_the_server_and_nowhere_else(server, monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    monkeypatch.setenv("THE_KEY", KEY)
    ask(server, "a", api_key_env="THE_KEY")
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    server.respond = lambda body: failure(400, f"what is Bearer {KEY}?")
    assert "what is Bearer …?" in refused(server, api_key_env="THE_KEY")
    server.respond = lambda body: (200, f"you sent {KEY}")
    assert "'you sent …'" in refused(server, api_key_env="THE_KEY")
    assert caplog.text and KEY not in caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(KEY in path.read_text() + str(path) for path in files)


def test_where_no_key_is_asked_for_the_one_of_openai_stays_here(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(server, "a")
    assert KEY not in str(server.headers)
    server.respond = lambda body: failure(401, "who are you?")
    assert "rejects a request without a key. Store a valid key" in refused(server)


def test_what_a_model_refuses_to_be_told_is_left_out(server):
    def respond(body):
        if "max_tokens" in body:
            text = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return failure(400, text, param="max_tokens", code="unsupported_parameter")
        if "seed" in body:
            return 422, {
                "detail": [
                    {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "not permitted"}
                ]
            }
        return completion("yes", body)

    server.respond = respond
    assert ask(server, "hello")[0].text == "yes"
    *_, last = server.bodies
    assert last.pop("messages") and last == {
        "model": "big",
        "max_completion_tokens": 16,
        "temperature": 0,
    }
    assert [reply.text for reply in ask(server, *"abcdef", max_concurrency=1)] == ["yes"] * 6
    assert len(server.bodies) == 3 + 2 + 6  # it is found out once a run


def test_a_limit_that_is_too_large_is_no_unknown_parameter(server):
    server.respond = lambda body: failure(400, "'max_tokens' is too large: 16. The model takes 8")
    assert "max_tokens' is too large" in refused(server) and len(server.bodies) == 1


def test_a_server_without_usage_counts_as_nothing_and_a_cut_answer_is_marked(server):
    def respond(body):
        status, answer = completion(None, body, usage=False)
        answer["choices"][0]["finish_reason"] = "length"
        return status, answer

    server.respond = respond
    (reply,) = ask(server, "a")
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.cut) == ("", 0, 0, True)


def test_tools_are_offered_and_a_call_comes_back_as_in_a_record(server):
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    server.respond = lambda body: completion(None, body, tool_calls=[call])
    asked = Request([{"role": "user", "content": "1+1"}], 16, 7, tools)
    (reply,) = chat(Endpoint(**server.settings()), [asked], "prompt.remote")
    assert server.bodies[0]["tools"] == tools
    assert json.loads(reply.text) == [
        {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    ]


def test_messages_go_out_as_the_api_takes_them():
    function = {"name": "add", "arguments": {"a": 1}}
    messages = [
        {"role": "user", "content": "1+1", "name": "ann"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": function}] * 2,
        },
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": "3", "tool_call_id": "given"},
        {"role": "assistant", "content": "2", "weight": 0, "reasoning_content": "easy"},
    ]
    user, calls, first, second, answer = to_api(messages)
    assert user == messages[0] and answer == {"role": "assistant", "content": "2"}
    assert [call["function"] for call in calls["tool_calls"]] == [
        {"name": "add", "arguments": '{"a":1}'}
    ] * 2
    ids = [call["id"] for call in calls["tool_calls"]]
    assert (
        len(set(ids)) == 2 and first["tool_call_id"] == ids[0] and second["tool_call_id"] == "given"
    )
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == {
        "a": 1
    }  # the record is as it was
