"""A stand-in for the Hugging Face Hub that takes repositories and commits."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """Keeps what was sent to it. `fault` is a status with which it answers everything."""

    def __init__(self, public=False, fault=None, there=("old.bin", "tuneproof.json")):
        self.public = public
        self.fault = fault
        self.there = there
        self.asked = []
        self.files = {}
        self.deleted = []
        self.created = None
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self):
        hub = self._note(b"")
        if self.path.startswith("/api/models/"):
            siblings = [{"rfilename": name} for name in hub.there]
            facts = {"id": "me/model", "private": not hub.public, "siblings": siblings}
            file = {"type": "file", "size": 1, "oid": "0" * 40}
            tree = [{**file, "path": name} for name in hub.there]
            self._send(200, tree if "/tree/" in self.path else {**facts, "sha": "0" * 40})
        else:
            self._send(404, {"error": "no such page"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub = self._note(body)
        if self.path == "/api/repos/create":
            hub.created = json.loads(body)
            self._send(200, {"url": f"{hub.url}/me/model"})
        elif self.path == "/api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for one in json.loads(body)["files"]
            ]
            self._send(200, {"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    hub.deleted.append(value["path"])
            self._send(
                200,
                {
                    "success": True,
                    "commitOid": "1" * 40,
                    "commitUrl": f"{hub.url}/me/model/commit/{'1' * 40}",
                    "hookOutput": "",
                },
            )
        else:
            self._send(404, {"error": "no such page"})

    def _note(self, body):
        self.hub.asked.append((self.command, self.path, self.headers.get("Authorization"), body))
        return self.hub

    def _send(self, status, value):
        status = self.hub.fault or status
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
