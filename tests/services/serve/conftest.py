"""A registry with a tiny model, and servers of it."""

import os
import shutil
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
import openai
import pytest
import torch
import uvicorn

from services.serve.admission import read_keys
from services.serve.app import create_app
from services.serve.following import Follower
from services.serve.loading import load
from services.serve.metrics import ServerMetrics
from services.serve.server_log import set_up_logs
from services.serve.settings import ServeConfig
from stages.core.config.schema import parse
from stages.core.data.predictions import read_predictions
from stages.core.data.records import read_records
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.version_files import MODEL, fetch_model, hash_artifact
from stages.core.tracking.versions import connect, find_version
from stages.register.__main__ import main as register
from tests.conftest import TINY, compose_config, entered, restored_environment
from tests.register.conftest import OPEN, stages_up_to_register  # noqa: F401  (a fixture)

NAME = "tuneproof-chat-jsonl"
ALIAS = f"{NAME}@champion"
FAST = {"poll_seconds": 0.1, "cache_tokens": 2048, "max_running": 8}


@dataclass
class Registered:
    """A registry with one version, and what the version answered when it was evaluated."""

    folder: Path
    records: list
    texts: list

    def connect(self):
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{self.folder / 'mlflow.db'}"
        return connect(parse(compose_config(*TINY, *OPEN)).tracking)


@dataclass
class Running:
    """A server in a thread of this process."""

    url: str
    follower: Follower
    metrics: ServerMetrics

    def client(self, key="none", **options):
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, **options)

    def post(self, path, body, **options):
        return httpx2.post(f"{self.url}{path}", json=body, timeout=60, **options)

    def get(self, path, **options):
        return httpx2.get(f"{self.url}{path}", timeout=60, **options)

    def ask(self, messages, **options):
        asked = {"model": ALIAS, "messages": messages, **options}
        return self.post("/v1/chat/completions", asked).json()


@pytest.fixture(scope="session")
def registry(stages_up_to_register, tmp_path_factory):  # noqa: F811
    """The tiny model is registered as version 1."""
    folder = tmp_path_factory.mktemp("registry") / "one"
    shutil.copytree(stages_up_to_register, folder)
    with entered(folder):
        register(compose_config(*TINY, *OPEN))
        texts = [prediction.text for prediction in read_predictions("tuned")]
        return Registered(folder, read_records("test"), texts)


@pytest.fixture
def own_registry(registry, tmp_path):
    """A copy of the registry, which a test may change."""
    folder = tmp_path / "registry"
    shutil.copytree(registry.folder, folder)
    return Registered(folder, registry.records, registry.texts)


def add_version(registered, folder, *, damaged=False):
    """Register a version with other weights. A damaged one does not match its hash."""
    client = registered.connect()
    one = find_version(client, f"{NAME}/1")
    shutil.copytree(fetch_model(one.uri), folder)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / MODEL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
        model.get_output_embeddings().weight.copy_(model.get_output_embeddings().weight.flip(0))
    model.save_pretrained(folder / MODEL)
    sha256 = hash_artifact(folder)
    if damaged:
        (folder / MODEL / "extra.json").write_text("{}")
    tags = {f"{PREFIX}files_sha256": sha256}
    made = client.create_model_version(NAME, folder.as_uri(), tags=tags)
    return str(made.version)


def move(registered, number):
    registered.connect().set_registered_model_alias(NAME, "champion", number)


@contextmanager
def running(registered, keys=None, **changes):
    """Start a server of a registry, in a thread."""
    settings = ServeConfig(**({"model": ALIAS} | FAST | changes))
    client = registered.connect()
    metrics = ServerMetrics()
    number = lambda: find_version(client, settings.model).number  # noqa: E731
    follower = Follower(load(client, settings), number, partial(load, client, settings), metrics)
    environment = {} if keys is None else {"TUNEPROOF_API_KEYS": keys}
    try:
        with served(follower, settings, read_keys(settings, environment), metrics) as server:
            yield server
    finally:
        follower.stop()


@contextmanager
def served(follower, settings, keys, metrics):
    set_up_logs()
    app = create_app(follower, settings, keys, metrics)
    options = {"log_config": None, "access_log": False, "timeout_graceful_shutdown": 5}
    server = uvicorn.Server(uvicorn.Config(app, port=0, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Running(f"http://127.0.0.1:{port}", follower, metrics)
    finally:
        server.should_exit = True
        thread.join(20)


def until(happened, seconds=20):
    """Wait until something has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(registry):
    """A server that the tests of a file share.

    It ends with them, because its threads would count in what other tests measure.
    """
    with ExitStack() as stack:
        with restored_environment():  # the tests of other files have a store of their own
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{registry.folder / 'mlflow.db'}"
            found = stack.enter_context(running(registry))
        yield found
