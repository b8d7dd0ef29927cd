"""A test server over HTTP on a free local port that fails in the ways in which servers do."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class WebServer:
    """Serves `files` by their decoded paths with queries, and misbehaves at the other paths.

    `/status/<number>/…` answers with this status, `/loop/…` redirects to itself, `/cut/…` announces
    more bytes than it sends, `/page/…` sends a web page, and `/silent/…` sends nothing until the
    server is closed.
    """

    def __init__(self, **files: bytes) -> None:
        self.files: dict[str, bytes] = dict(files)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"web": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    def __enter__(self) -> "WebServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: WebServer

    def do_GET(self) -> None:
        self.web.asked.append((self.path, dict(self.headers)))
        path = unquote(self.path)
        kind, _, rest = self.path.strip("/").partition("/")
        if path in self.web.files:
            self._send(200, self.web.files[path])
        elif kind == "status":
            self._send(int(rest.partition("/")[0]), b"no")
        elif kind == "loop":
            self._send(302, b"", Location=self.path)
        elif kind == "cut":
            self._send(200, b'{"prompt": "a", "completion": "b"}\n', **{"Content-Length": "1000"})
        elif kind == "page":
            self._send(200, b"\n<!DOCTYPE html>\n<html>Log in</html>")
        elif kind == "silent":
            self.web.closing.wait(60)
        else:
            self._send(404, b"no")

    def _send(self, status: int, body: bytes, **headers: Any) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
