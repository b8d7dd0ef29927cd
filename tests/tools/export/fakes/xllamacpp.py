"""A stand-in for the package xllamacpp, whose server gives a fixed answer.

`FAKE_LLAMA_CPP` makes it fail in the ways of the real one.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

FAULT = os.environ.get("FAKE_LLAMA_CPP", "")


class CommonParams:
    def __init__(self):
        self.model = SimpleNamespace(path="")
        self.cpuparams = SimpleNamespace(n_threads=0)
        self.cpuparams_batch = SimpleNamespace(n_threads=0)


class Server:
    def __init__(self, params):
        if FAULT == "load":
            raise RuntimeError("Failed to init server, please check the input params.")
        assert params.n_ctx > 0 and params.cpuparams.n_threads > 0
        server = HTTPServer(("127.0.0.1", params.port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdout.write("a line of llama.cpp\n")
        self.listening_address = f"http://127.0.0.1:{server.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if FAULT == "abort":
            os._exit(134)
        if FAULT == "refuse":
            self._send(400, {"error": {"message": "too long"}})
        elif self.path == "/apply-template":
            self._send(200, {"prompt": "".join(m["content"] for m in asked["messages"])})
        elif self.path == "/tokenize":
            self._send(200, {"tokens": [ord(letter) for letter in asked["content"]]})
        else:
            self._send(200, {"tokens": asked["prompt"][: asked["n_predict"]]})

    def _send(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
