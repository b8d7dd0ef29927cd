"""Answers in batches, by a vLLM server, and classifiers."""

import asyncio
import json
import sys
import threading
from contextlib import aclosing
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaConfig,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
)

from services.serve import batches
from services.serve.batches import BatchEngine
from services.serve.classifier import Classifier
from services.serve.continuous import ContinuousEngine, start_engine
from services.serve.engine import EngineError, OverloadedError, Sampling
from services.serve.following import Follower
from services.serve.loading import Served
from services.serve.metrics import ServerMetrics
from services.serve.settings import ServeConfig
from services.serve.vllm import VllmEngine
from stages.core.config.model import RandomSource
from stages.core.models.base_models import ModelFiles
from stages.core.models.encoders import _make_random
from stages.core.models.generation import generate
from stages.core.models.loading import get_tokenizer
from stages.core.tracking.version_files import TOKENIZER, fetch_model
from stages.core.tracking.versions import Version, find_version
from tests.services.serve.conftest import ALIAS, NAME, served, until

SETTINGS = ServeConfig(model=ALIAS, max_running=4, cache_tokens=512)
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
LIMIT = 128
PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]


@pytest.fixture(scope="module")
def tokenizer(registry):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registry.folder / 'mlflow.db'}")
        folder = fetch_model(find_version(registry.connect(), ALIAS).uri)
    return get_tokenizer(ModelFiles(str(folder / TOKENIZER), None, None))


def make(kind, tokenizer):
    torch.manual_seed(1)
    size = {"vocab_size": len(tokenizer)}
    if kind == "recurrent":
        config = MambaConfig(**size, hidden_size=32, num_hidden_layers=2, state_size=4)
        return MambaForCausalLM(config).eval()
    if kind == "window":
        config = MistralConfig(**size, **SIZES, num_key_value_heads=2, sliding_window=8)
    else:
        config = LlamaConfig(**size, **SIZES, num_key_value_heads=2)
    return AutoModelForCausalLM.from_config(config).eval()


async def ask(engine, prompt, max_new_tokens=6, **options):
    found = []
    async with aclosing(engine.generate(prompt, Sampling(max_new_tokens, **options))) as steps:
        async for step in steps:
            found.append(step)
    return found


@pytest.mark.parametrize(
    ("kind", "engine"),
    [("plain", ContinuousEngine), ("window", BatchEngine), ("recurrent", BatchEngine)],
)
def test_each_model_gets_an_engine_that_answers_as_evaluation_does(tokenizer, kind, engine):
    model = make(kind, tokenizer)
    limits = {"max_new_tokens": 6, "max_batch_tokens": 512, "title": None}
    expected = [list(x.ids) for x in generate(model, tokenizer, PROMPTS, **limits)]
    found = start_engine(model, tokenizer, LIMIT, SETTINGS)
    assert isinstance(found, engine)

    async def ask_all():
        return await asyncio.gather(*(ask(found, prompt) for prompt in PROMPTS))

    try:
        steps = asyncio.run(ask_all())
        assert [each[-1].ids for each in steps] == expected
        assert all(each[-1].finished for each in steps)
    finally:
        found.stop()
    assert not found.is_alive()
    with pytest.raises(EngineError):
        asyncio.run(ask(found, PROMPTS[0]))


def test_a_model_that_continuous_batching_answers_otherwise_gets_batches(tokenizer, monkeypatch):
    monkeypatch.setattr(ContinuousEngine, "complete", lambda *_: [1])
    found = start_engine(make("plain", tokenizer), tokenizer, LIMIT, SETTINGS)
    assert isinstance(found, BatchEngine)
    found.stop()


def test_a_batch_cuts_each_answer_at_its_own_limit(tokenizer, monkeypatch):
    """The first request is held back in a batch of its own until the others wait for the next."""
    begun, going = threading.Event(), threading.Event()
    sizes = []

    def hold(model, tokenizer, prompts, **options):
        begun.set()
        assert going.wait(60)
        sizes.append(len(prompts))
        return generate(model, tokenizer, prompts, **options)

    monkeypatch.setattr(batches, "generate", hold)
    engine = BatchEngine(make("plain", tokenizer), tokenizer, 4)

    async def ask_all():
        first = asyncio.ensure_future(ask(engine, PROMPTS[1]))
        assert await asyncio.to_thread(begun.wait, 60)
        others = [asyncio.ensure_future(ask(engine, PROMPTS[0], n)) for n in (6, 2)]
        await asyncio.to_thread(until, lambda: engine._waiting.qsize() == 2)
        going.set()
        await first
        return [(await other)[-1].ids for other in others]

    long, short = asyncio.run(ask_all())
    engine.stop()
    assert sizes == [1, 2]
    assert len(long) > 2 and short == long[:2]


STUB = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
port = int(sys.argv[sys.argv.index("--port") + 1])
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = {7: 503, 8: 500}.get(body["prompt"][0], 200)
        self.send_response(status); self.end_headers()
        if status != 200: return
        if body["prompt"][0] == 9:
            self.wfile.write(b'data: {"error": {"message": "x"}}\\n\\n'); return
        for i in range(body["max_tokens"]):
            last = i + 1 == body["max_tokens"]
            choice = {"text": "", "token_ids": [i], "finish_reason": "length" if last else None}
            self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\\n\\n")
        self.wfile.write(b"data: [DONE]\\n\\n")
        with open(sys.argv[1], "a") as file: file.write(json.dumps(body) + "\\n")
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def test_a_vllm_server_is_asked_in_token_ids_and_its_errors_are_named(tmp_path):
    """A small server stands for vLLM, which needs a GPU."""
    (tmp_path / "stub.py").write_text(STUB)
    seen = tmp_path / "seen.jsonl"
    engine = VllmEngine([sys.executable, str(tmp_path / "stub.py"), str(seen)], 20, {2, 1})

    async def ask_all():
        found = await ask(engine, [5, 6], temperature=0.5, top_p=0.9, seed=3)
        for prompt, error in (([7], OverloadedError), ([8], EngineError), ([9], EngineError)):
            with pytest.raises(error):
                await ask(engine, prompt)
        return found

    try:
        found = asyncio.run(ask_all())
        assert [step.ids for step in found] == [list(range(i + 1)) for i in range(6)]
        assert [step.finished for step in found] == [False] * 5 + [True]
        body = json.loads(seen.read_text().splitlines()[0])
        assert body["prompt"] == [5, 6] and body["stop_token_ids"] == [1, 2]
        assert (body["temperature"], body["top_p"], body["seed"]) == (0.5, 0.9, 3)
    finally:
        engine.stop()
    assert not engine.is_alive()
    with pytest.raises(EngineError):
        asyncio.run(ask(engine, [5]))


def make_classifier(folder, kind, **options):
    source = RandomSource(kind="random", hidden_size=32, layers=1, heads=2)
    _make_random(source, 1, folder)
    config = BertConfig.from_pretrained(folder, num_labels=3, **options)
    config.id2label = {0: "O", 1: "B-PER", 2: "I-PER"}
    torch.manual_seed(1)
    return kind(config).eval(), get_tokenizer(ModelFiles(str(folder), None, None), chats=False)


def serve_classifier(model):
    version = Version(NAME, "1", ("champion",), "m", 0, {})
    metrics = ServerMetrics()
    found = Served(version, model, "0" * 64, Path("nowhere"))
    follower = Follower(found, lambda: "1", lambda: found, metrics)
    return served(follower, SETTINGS, [], metrics)


def test_a_classifier_gives_the_score_of_every_label(tmp_path):
    weights, tokenizer = make_classifier(tmp_path, BertForSequenceClassification)
    texts = ["one", "a much longer text", "x" * 100]
    with serve_classifier(Classifier(weights, tokenizer, "sequence-classification", 32)) as server:
        said = server.post("/v1/classify", {"model": ALIAS, "input": texts}).json()
        single = server.post("/v1/classify", {"model": ALIAS, "input": texts[0]}).json()
        wrong = server.post("/v1/classify", {"model": ALIAS, "input": []})
        chat = server.post(
            "/v1/chat/completions",
            {"model": ALIAS, "messages": [{"role": "user", "content": "a"}]},
        )
    ids = tokenizer(texts[0], return_tensors="pt")
    expected = weights(**ids).logits.softmax(-1)[0].tolist()
    assert list(said["data"][0]["scores"].values()) == pytest.approx(expected, abs=1e-5)
    best = max(said["data"][0]["scores"], key=said["data"][0]["scores"].get)
    assert said["data"][0]["labels"] == [best] and said["data"][0]["answer"] == best
    assert [each["cut"] for each in said["data"]] == [False, False, True]
    assert [each["index"] for each in said["data"]] == [0, 1, 2]
    assert said["usage"]["prompt_tokens"] == 5 + 20 + 32
    assert single["data"][0]["labels"] == said["data"][0]["labels"]
    assert wrong.json()["error"]["code"] == "empty_array"
    assert chat.status_code == 400 and "/v1/classify" in chat.json()["error"]["message"]


def test_a_tagger_gives_the_places_of_its_tags(tmp_path):
    weights, tokenizer = make_classifier(tmp_path, BertForTokenClassification)
    with torch.no_grad():
        weights.classifier.bias[1] = 9  # every token begins a person
    with serve_classifier(Classifier(weights, tokenizer, "token-classification", 32)) as server:
        found = server.post("/v1/classify", {"model": ALIAS, "input": "Al B"}).json()["data"][0]
    tags = found["tags"]
    assert [tag["text"] for tag in tags] == ["A", "l", " ", "B"]
    assert {tag["label"] for tag in tags} == {"B-PER"} and tags[0]["score"] > 0.9
    assert "PER" in found["answer"] and threading.active_count() < 50
