"""The server as a process: its first message, its end and its log."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import openai
import psutil
import pytest

from tests.conftest import ROOT
from tests.services.serve.conftest import ALIAS, until

VLLM = """#!PYTHON
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if "MOMENT" == "ready" else 503)
        self.end_headers()
server = HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler)
file = Path(os.environ["DVC_ROOT"], "pid")
file.with_suffix(".new").write_text(str(os.getpid()))
file.with_suffix(".new").rename(file)
server.serve_forever()
"""
KEY = "sk-a-key-of-the-test"
USER = [{"role": "user", "content": "a very private text"}]


def start(registry, log, *words, **variables):
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{registry.folder / 'mlflow.db'}",
        "PYTHONPATH": str(ROOT),
        **variables,
    }
    named = any(word.startswith("model=") for word in words)
    model = [] if named else [f"model={ALIAS}"]
    command = [sys.executable, "-m", "services.serve", *model, "port=0", *words]
    with log.open("wb") as file:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)


@contextmanager
def process(registry, log, *words, **variables):
    found = start(registry, log, *words, **variables)
    try:
        until(lambda: "Uvicorn running on" in log.read_text() or found.poll() is not None, 60)
        yield found, re.search(r"http://\S+", log.read_text())[0]
    finally:
        found.kill()
        found.wait()


def test_sigterm_lets_answers_end_and_the_log_has_neither_texts_nor_keys(registry, tmp_path):
    log = tmp_path / "log"
    words = ("cache_tokens=2048", "drain_seconds=30")
    with process(registry, log, *words, TUNEPROOF_API_KEYS=KEY) as (server, url):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)
        stream = client.chat.completions.create(
            model=ALIAS, messages=USER, stream=True, max_tokens=600, temperature=1.9
        )
        chunks = iter(stream)
        next(chunks)
        server.send_signal(signal.SIGTERM)
        reasons = [chunk.choices[0].finish_reason for chunk in chunks]
        assert reasons[-1] in ("stop", "length")
        assert server.wait(20) == 0
        with pytest.raises(openai.APIConnectionError):
            client.models.list()
    text = log.read_text()
    assert "private" not in text and KEY not in text and "Traceback" not in text


@pytest.mark.parametrize("moment", ["ready", "starting"])
def test_sigterm_ends_vllm_too(registry, tmp_path, moment):
    """A small program stands for vLLM."""
    program = tmp_path / ".venv-vllm/bin/vllm"
    program.parent.mkdir(parents=True)
    program.write_text(VLLM.replace("PYTHON", sys.executable).replace("MOMENT", moment))
    program.chmod(0o755)
    shutil.copytree(ROOT / "conf/engine", tmp_path / "conf/engine")
    log = tmp_path / "log"
    server = start(registry, log, "engine=vllm", "drain_seconds=3", DVC_ROOT=str(tmp_path))
    try:
        seen = "Uvicorn running on" if moment == "ready" else ""
        until(lambda: (tmp_path / "pid").exists() and seen in log.read_text(), 60)
        child = psutil.Process(int((tmp_path / "pid").read_text()))
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == (0 if moment == "ready" else 128 + signal.SIGTERM)
        until(lambda: not child.is_running(), 20)
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["host=0.0.0.0"], "serve: host=0.0.0.0 can be reached from other machines"),
        (["model=nobody@champion"], "serve: nobody@champion: no registered model has the name"),
        (["prot=1"], "prot: unknown key. Did you mean port?"),
    ],
)
def test_a_server_that_cannot_start_says_why_before_it_imports_torch(
    registry, tmp_path, words, said
):
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch was imported')")
    log = tmp_path / "log"
    server = start(registry, log, *words, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert server.wait(60) == 1
    assert said in log.read_text() and "Traceback" not in log.read_text()


def test_a_server_without_its_engine_says_so(registry, tmp_path):
    log = tmp_path / "log"
    assert start(registry, log, "engine=vllm").wait(60) == 1
    assert "serve: engine.command: found no .venv-vllm/bin/vllm" in log.read_text()
    assert "Traceback" not in log.read_text()
