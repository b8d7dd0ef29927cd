import json

import pytest

from stages.core.config.prompt import Endpoint
from stages.core.endpoint.requests import Request, chat
from stages.core.errors import UserError
from tests.chat_server import ChatServer, completion


def test_a_changed_or_damaged_reply_in_the_cache_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path))
    asked = [Request([{"role": "user", "content": "Hi"}], max_tokens=1, seed=0)]
    with ChatServer(lambda body: completion("right", body)) as server:
        endpoint = Endpoint(**server.settings())
        assert chat(endpoint, asked, "prompt.remote") == chat(endpoint, asked, "prompt.remote")
        (path,) = tmp_path.rglob("*.json")
        exchange = json.loads(path.read_text())
        exchange["reply"]["text"] = "poisoned"
        for text in (json.dumps(exchange), path.read_text()[:20], "[]", "{}"):
            path.write_text(text)
            with pytest.raises(UserError, match=rf"{path}: this reply in the cache was damaged"):
                chat(endpoint, asked, "prompt.remote")
        path.unlink()
        assert chat(endpoint, asked, "prompt.remote")[0].text == "right"
