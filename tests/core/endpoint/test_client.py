import pytest

from stages.core.config.prompt import Endpoint
from stages.core.endpoint.client import Client
from stages.core.errors import UserError
from tests.chat_server import ChatServer, completion, failure

ASKED = {"model": "big", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


def ask(**settings):
    return Client(Endpoint(**settings), "prompt.remote").ask(ASKED)


def test_no_message_shows_the_password_or_the_query_of_the_address():
    with ChatServer(lambda _: failure(404, "no model at http://me:pa55w0rd@host?k=pa55w0rd")) as it:
        away = it.url.replace("http://", "http://me:pa55w0rd@") + "?key=pa55w0rd"
        for url in (away, it.url):
            with pytest.raises(UserError) as error:
                ask(**it.settings(base_url=url))
            assert "pa55w0rd" not in str(error.value) and "prompt.remote: big at" in str(
                error.value
            )


def test_a_missing_key_is_named_without_the_password(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with ChatServer(lambda body: completion("x", body)) as server:
        url = server.url.replace("http://", "http://me:pa55w0rd@")
        with pytest.raises(UserError, match=r"NO_SUCH_KEY to the key of http://\*\*\*@127"):
            ask(**server.settings(base_url=url, api_key_env="NO_SUCH_KEY"))
