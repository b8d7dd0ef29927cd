"""Malformed requests get OpenAI's status, code and parameter, and never FastAPI's `detail`."""

import openai
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from services.serve.requests import IGNORED, NEUTRAL, ChatRequest
from tests.services.serve.conftest import ALIAS, running

USER = [{"role": "user", "content": "Say 1."}]
KEY = "sk-first"
SERVER = {"max_body": 5000, "max_length": 200}


@pytest.fixture(scope="module")
def strict(registry):
    """A server with keys and small limits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registry.folder / 'mlflow.db'}")
        with running(registry, keys=f"sk-other,{KEY}", **SERVER) as server:
            yield server


def post(server, body, key=KEY, **options):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return server.post("/v1/chat/completions", body, headers=headers, **options)


def chat(**changes):
    return {"model": ALIAS, "messages": USER, **changes}


def message(**changes):
    return chat(messages=[USER[0] | changes])


CASES = {
    "no messages": ({"model": ALIAS}, 400, "missing_required_parameter", "messages"),
    "no model": ({"messages": USER}, 400, "missing_required_parameter", "model"),
    "messages []": (chat(messages=[]), 400, "empty_array", "messages"),
    "messages a text": (chat(messages="a"), 400, "invalid_type", "messages"),
    "role robot": (message(role="robot"), 400, "invalid_value", "messages[0].role"),
    "content a number": (message(content=1), 400, "invalid_type", "messages[0].content"),
    "content missing": (
        chat(messages=[{"role": "user"}]),
        400,
        "missing_required_parameter",
        "messages[0].content",
    ),
    "an image": (
        message(content=[{"type": "image_url", "image_url": {"url": "x"}}]),
        400,
        "invalid_value",
        "messages[0].content",
    ),
    "half a surrogate pair": (
        message(content="\ud800"),
        400,
        "invalid_value",
        "messages[0].content",
    ),
    "a call of a tool": (
        chat(messages=[{"role": "assistant", "content": "", "tool_calls": [{}]}]),
        400,
        "unsupported_parameter",
        "messages.tool_calls",
    ),
    "temperature 9": (chat(temperature=9), 400, "decimal_above_max_value", "temperature"),
    "temperature -1": (chat(temperature=-1), 400, "decimal_below_min_value", "temperature"),
    "top_p 0": (chat(top_p=0), 400, "decimal_below_min_value", "top_p"),
    "max_tokens 0": (chat(max_tokens=0), 400, "integer_below_min_value", "max_tokens"),
    "max_tokens x": (chat(max_tokens="x"), 400, "invalid_type", "max_tokens"),
    "max_tokens true": (chat(max_tokens=True), 400, "invalid_type", "max_tokens"),
    "unknown field": (chat(foo=1), 400, "unknown_parameter", "foo"),
    "unknown field of a message": (
        message(foo=1),
        400,
        "unknown_parameter",
        "messages[0].foo",
    ),
    "unknown model": (chat(model="nope"), 404, "model_not_found", "model"),
    "prompt too long": (
        message(content="very " * 100),
        400,
        "context_length_exceeded",
        "messages",
    ),
    "answer too long": (chat(max_tokens=190), 400, "context_length_exceeded", "messages"),
    "n 99": (chat(n=99), 400, "integer_above_max_value", "n"),
    "five stops": (chat(stop=list("abcde")), 400, "array_above_max_length", "stop"),
    "an empty stop": (chat(stop=""), 400, "empty_string", "stop[0]"),
    "seed of a draw": (chat(seed=1, temperature=1), 400, "unsupported_parameter", "seed"),
    "tools": (chat(tools=[{"type": "function"}]), 400, "unsupported_parameter", "tools"),
    "logit_bias": (chat(logit_bias={"1": 5}), 400, "unsupported_parameter", "logit_bias"),
    "logprobs": (chat(logprobs=True), 400, "unsupported_parameter", "logprobs"),
    "penalty": (chat(presence_penalty=1), 400, "unsupported_parameter", "presence_penalty"),
    "JSON schema": (
        chat(response_format={"type": "json_object"}),
        400,
        "unsupported_parameter",
        "response_format",
    ),
    "top_logprobs alone": (chat(top_logprobs=2), 400, "invalid_value", "top_logprobs"),
    "stream_options alone": (
        chat(stream_options={"include_usage": True}),
        400,
        "invalid_value",
        "stream_options",
    ),
    "body over the limit": (message(content="x" * 6000), 413, "request_too_large", None),
    "body far over the limit": (message(content="x" * 10**6), 413, "request_too_large", None),
    "a list": ([1], 400, "invalid_json", None),
    "null": (None, 400, "invalid_json", None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_malformed_chat_is_refused_with_its_code_and_parameter(strict, case):
    body, status, code, param = CASES[case]
    if "surrogate" in case:  # the client cannot write it
        content = b'{"model": "%s", "messages": [{"role": "user", "content": "\\ud800"}]}'
        raw = {"content": content % ALIAS.encode()}
        said = send_raw(strict, **raw)
    else:
        said = post(strict, body)
    assert said.status_code == status, said.text
    error = said.json()["error"]
    assert set(said.json()) == {"error"} and set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == "invalid_request_error" and error["message"]


def send_raw(server, content, content_type="application/json"):
    import httpx2

    headers = {"authorization": f"Bearer {KEY}", "content-type": content_type}
    url = f"{server.url}/v1/chat/completions"
    return httpx2.post(url, content=content, headers=headers, timeout=30)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 5000, b'{"a": NaN}', b"\xff"])
def test_a_body_that_is_no_json_is_refused(strict, content):
    said = send_raw(strict, content)
    assert said.status_code == 400 and "detail" not in said.json()
    assert said.json()["error"]["type"] == "invalid_request_error"


def test_a_form_of_a_web_page_is_refused(strict):
    """A browser sends text/plain to any server without asking it."""
    body = b'{"model": "%s", "messages": [{"role": "user", "content": "a"}]}' % ALIAS.encode()
    assert send_raw(strict, body, "text/plain").status_code == 400


@pytest.mark.parametrize(
    ("key", "code"), [(None, None), ("sk-wrong", "invalid_api_key"), ("ключ", "invalid_api_key")]
)
def test_no_key_and_a_wrong_key_are_refused(strict, key, code):
    headers = {"authorization": f"Bearer {key}".encode()} if key else {}
    for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
        said = strict.get(path, headers=headers)
        assert (said.status_code, said.json()["error"]["code"]) == (401, code)
        assert said.headers["www-authenticate"] == "Bearer"
    assert strict.get("/health").status_code == 200


def test_each_key_is_accepted(strict):
    for key in (KEY, "sk-other"):
        assert post(strict, chat(), key).status_code == 200


def test_the_client_raises_its_own_exceptions(strict):
    with pytest.raises(openai.AuthenticationError):
        strict.client("sk-wrong").models.list()
    with pytest.raises(openai.NotFoundError) as refused:
        strict.client(KEY).models.retrieve("nope")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        strict.client(KEY).models.delete("nope")
    with pytest.raises(openai.PermissionDeniedError):
        strict.client(KEY).models.delete(ALIAS)
    with pytest.raises(openai.APIStatusError) as large:
        strict.client(KEY).chat.completions.create(
            model=ALIAS, messages=[{"role": "user", "content": "x" * 6000}]
        )
    assert (large.value.status_code, large.value.code) == (413, "request_too_large")


def test_an_unknown_route_and_a_wrong_method_have_the_shape_too(strict):
    headers = {"authorization": f"Bearer {KEY}"}
    for path, status in (("/v1/nothing", 404), ("/v1/chat/completions", 405)):
        said = strict.get(path, headers=headers)
        assert said.status_code == status
        assert set(said.json()["error"]) == {"message", "type", "param", "code"}


def test_every_field_of_openai_is_answered_ignored_or_refused_by_name():
    known = set(CompletionCreateParamsBase.__annotations__) | {"stream"}
    assert known == set(ChatRequest.model_fields) | set(NEUTRAL) | IGNORED
