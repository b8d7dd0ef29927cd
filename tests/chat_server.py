"""A test server that speaks OpenAI's chat API on a free local port and can misbehave."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Response = tuple[int, Any]
Body = dict[str, Any]


def completion(text: str | None, body: Body, usage: bool = True, **message: Any) -> Response:
    """Return a valid response whose token counts are counts of words."""
    words = sum(len(str(said["content"]).split()) for said in body["messages"])
    counts = {
        "prompt_tokens": words,
        "completion_tokens": len((text or "").split()),
        "total_tokens": 0,
    }
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": "stop",
    }
    named = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"] + "-0601"}
    return 200, {
        **named,
        "choices": [choice],
        "system_fingerprint": "fp_1",
        **({"usage": counts} if usage else {}),
    }


def failure(status: int, message: str, **more: Any) -> Response:
    """Return an error response in OpenAI's format."""
    return status, {
        "error": {"message": message, "type": "error", "param": None, "code": None, **more}
    }


class ChatServer:
    """A chat server that answers each request with what `respond` returns for its body.

    A status of 0 closes the connection without a response.
    """

    def __init__(self, respond: Callable[[Body], Response]) -> None:
        self.respond = respond
        self.delay = 0.0
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"chat": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    def __enter__(self) -> "ChatServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the configuration section of an endpoint that points to this server."""
        given = {
            "base_url": self.url,
            "model": "big",
            "api_key_env": None,
            "max_concurrency": 4,
            "timeout": 60,
            "max_retries": 0,
        }
        return given | changes

    def take(self, body: Body, headers: dict[str, str]) -> Response:
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            time.sleep(self.delay)
            return self.respond(body)
        finally:
            with self._lock:
                self.in_flight -= 1


class _Handler(BaseHTTPRequestHandler):
    chat: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, payload = self.chat.take(
            body, {name.lower(): value for name, value in self.headers.items()}
        )
        if self.path != "/v1/chat/completions":
            status, payload = failure(404, f"no {self.path} here")
        if not status:
            return
        data = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
        try:
            self.send_response(status)
            self.send_header(
                "Content-Type", "text/html" if isinstance(payload, str) else "application/json"
            )
            self.send_header("Content-Length", str(len(data)))
            # The client package then retries after a millisecond.
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # the client has closed the connection

    def log_message(self, *_: object) -> None:
        pass
