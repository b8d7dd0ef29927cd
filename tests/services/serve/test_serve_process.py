"""The server as a process: its first message, its end and its log."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import openai
import pytest

from tests.conftest import ROOT
from tests.services.serve.conftest import ALIAS, until

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
        assert server.wait(20) in (0, -signal.SIGTERM)
        with pytest.raises(openai.APIConnectionError):
            client.models.list()
    text = log.read_text()
    assert "private" not in text and KEY not in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["host=0.0.0.0"], "serve: host=0.0.0.0 can be reached from other machines"),
        (["model=nobody@champion"], "serve: nobody@champion: no registered model has the name"),
        (["prot=1"], "prot: unknown key. Did you mean port?"),
        (["engine=vllm"], "serve: engine.command: found no .venv-vllm/bin/vllm"),
    ],
)
def test_a_server_that_cannot_start_says_why(registry, tmp_path, words, said):
    log = tmp_path / "log"
    server = start(registry, log, *words)
    assert server.wait(60) == 1
    assert said in log.read_text() and "Traceback" not in log.read_text()
