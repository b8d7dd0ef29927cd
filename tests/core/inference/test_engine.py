import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import orjson
import psutil
import pytest
import torch

from stages.core.errors import UserError
from stages.core.inference.engine import get_engine
from stages.core.models.generation import generate
from stages.core.models.loading import get_model, get_tokenizer, get_tuned_model
from tests.conftest import ROOT

FAKE = '''#!{python}
"""Speaks as much of vLLM's protocol as the engine needs; an answer is the prompt backwards, then the end token."""
import http.server, json, os, pathlib, signal, subprocess, sys, threading, time

flags = [argument for argument in sys.argv[3:] if argument != "--enable-prefix-caching"]
arguments = dict(zip(flags[::2], flags[1::2]))
mode, record = arguments["--mode"], pathlib.Path(arguments["--record"])
started = dict(pids=[os.getpid()], argv=sys.argv, track=os.environ.get("DO_NOT_TRACK"))
if mode in ("dies", "hangs"):  # with a worker that minds no SIGTERM, as one that waits for its GPU
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    worker = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    worker.stdout.readline()
    started["pids"].append(worker.pid)
record.write_text(json.dumps(started))
print("loading weights", flush=True)
if mode == "dies":
    sys.exit("no GPU found")
busy, most, lock = 0, 0, threading.Lock()

class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(503 if mode == "loads for ever" else 200 if self.path == "/health" else 404, "")

    def do_POST(self):
        global busy, most
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            busy += 1
            most = max(most, busy)
        prompt = body["prompt"]
        time.sleep(60 if mode == "hangs" else 0.02 + 0.01 * (prompt[0] % 7))  # answers overtake each other
        with lock:
            busy -= 1
            record.with_suffix(".busy").write_text(str(most))
        if mode == "goes away":
            os._exit(3)
        if mode == "refuses":
            return self.reply(400, {{"error": {{"message": "the prompt is too long"}}}})
        assert self.path == "/v1/completions" and body["model"] == arguments["--served-model-name"]
        assert body["temperature"] == 0 and body["return_token_ids"] is True
        assert body["ignore_eos"] or body["stop_token_ids"] == [{end}]
        ids = (prompt[::-1] + [{end}])[: body["max_tokens"]]
        reason = "stop" if ids[-1] == {end} else "length"
        read = [0, *prompt] if mode == "adds a token" else prompt
        record.with_suffix(".choices").write_text(json.dumps(body.get("structured_outputs")))
        choice = dict(index=0, text="?", token_ids=ids, prompt_token_ids=read, finish_reason=reason)
        self.reply(200, {{"choices": [choice]}})

print("ready", flush=True)
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer((arguments["--host"], int(arguments["--port"])), Handler).serve_forever()
'''
PROMPTS = [[n + 2, 40 + n, 50] for n in range(30)]


@pytest.fixture
def tokenizer(base):
    return get_tokenizer(base)


@pytest.fixture
def vllm(tmp_path, config, tokenizer):
    """A configuration whose `vllm` is a script that behaves as `mode` says; and what the script wrote down."""
    script = tmp_path / "bin" / "vllm"
    record = tmp_path / "record.json"
    script.parent.mkdir()
    script.write_text(FAKE.format(python=sys.executable, end=tokenizer.eos_token_id))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)

    def make(mode="answers", *overrides):
        return config(
            "engine=vllm",
            f"engine.command=[{script},serve]",
            f"engine.args=[--mode,{mode},--record,{record}]",
            "engine.startup_timeout=120",
            "engine.max_concurrency=4",
            *overrides,
        )

    yield make, record
    for pid in read(record)["pids"] if record.exists() else []:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def read(record):
    return orjson.loads(record.read_bytes())


def alive(record):
    return [pid for pid in read(record)["pids"] if psutil.pid_exists(pid) and running(pid)]


def running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ask(engine, max_new_tokens=8, allowed=None):
    return engine.generate(PROMPTS, max_new_tokens=max_new_tokens, title="test", allowed=allowed)


def test_a_server_is_told_the_allowed_answers_and_says_what_was_cut(vllm, base, tokenizer):
    make, record = vllm
    with get_engine(make(), base, tokenizer) as engine:
        allowed = [
            [*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in ("yes", "no")
        ]
        whole = ask(engine, allowed=allowed)
        assert read(record.with_suffix(".choices")) == {"choice": ["yes", "no"]}
        short = ask(engine, max_new_tokens=2)
        assert read(record.with_suffix(".choices")) is None
    assert not any(answer.cut for answer in whole) and all(answer.cut for answer in short)


def test_this_process_answers_as_generate_does(config, base, tokenizer):
    with get_engine(config("model.dtype=float32"), base, tokenizer) as engine:
        answers = ask(engine)
        model = engine.get_model()
    expected = generate(
        model, tokenizer, PROMPTS, max_new_tokens=8, max_batch_tokens=512, title="test"
    )
    assert [answer.text for answer in answers] == [answer.text for answer in expected]


def test_a_server_answers_in_order_and_is_gone_afterwards(vllm, base, tokenizer):
    make, record = vllm
    with get_engine(make(), base, tokenizer) as engine:
        started = time.perf_counter()
        answers = ask(engine)
        seconds = time.perf_counter() - started
        assert len(alive(record)) == 1
    assert alive(record) == []
    assert [answer.text for answer in answers] == [
        tokenizer.decode(prompt[::-1]) for prompt in PROMPTS
    ]
    assert {(answer.prompt_tokens, answer.completion_tokens) for answer in answers} == {
        (3, 4)
    }  # with the end token
    # The server works 0.02 s or longer on each and on four at a time.
    assert len(PROMPTS) * 0.02 / 4 < sum(answer.seconds for answer in answers) <= seconds
    assert 1 < int(record.with_suffix(".busy").read_text()) <= 4


def test_an_answer_is_cut_at_its_longest(vllm, base, tokenizer):
    make, _ = vllm
    with get_engine(make(), base, tokenizer) as engine:
        assert [answer.completion_tokens for answer in ask(engine, 2)] == [2] * len(PROMPTS)


def test_the_server_gets_the_limits_of_the_model(vllm, base, tokenizer):
    make, record = vllm
    with get_engine(
        make("answers", "model.dtype=float32", "model.max_length=77", "seed=5"), base, tokenizer
    ):
        pass
    found = read(record)
    line = " ".join(found["argv"][1:])
    assert line.startswith(
        f"serve {base.path} --dtype float32 --max-model-len 77 --enable-prefix-caching"
    )
    assert "--generation-config vllm --seed 5" in line and "--host 127.0.0.1" in line
    assert "--revision" not in line and "--trust-remote-code" not in line and found["track"] == "1"


def test_the_server_gets_an_adapter_merged_and_our_own_copy_comes_after_it(
    vllm, base, tokenizer, tmp_path
):
    from peft import LoraConfig, get_peft_model

    adapter = LoraConfig(
        r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    tuned = tmp_path / "tuned"
    get_peft_model(get_model(base, "float32"), adapter).save_pretrained(tuned)
    expected = get_tuned_model(base, "bfloat16", tuned).state_dict()
    make, record = vllm
    with get_engine(make("answers", "model.dtype=bfloat16"), base, tokenizer, tuned) as engine:
        folder = read(record)["argv"][2]
        served = get_model(type(base)(folder, None, None), "bfloat16").state_dict()
        assert (
            get_tokenizer(type(base)(folder, None, None)).chat_template == tokenizer.chat_template
        )
        assert len(alive(record)) == 1
        model = engine.get_model()
        assert alive(record) == [] and engine.get_model() is model
    assert not Path(folder).exists()
    assert served.keys() == expected.keys() == model.state_dict().keys()
    assert all(torch.equal(served[key], expected[key]) for key in expected)
    assert all(torch.equal(model.state_dict()[key], expected[key]) for key in expected)


def test_a_whole_tuned_model_is_served_where_it_lies(vllm, base, tokenizer, tmp_path):
    get_model(base, "float32").save_pretrained(tmp_path / "tuned")
    make, record = vllm
    with get_engine(make(), base, tokenizer, tmp_path / "tuned"):
        assert read(record)["argv"][2] == str(tmp_path / "tuned")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("dies", r"vLLM exited with status 1; the end of its log:\nloading weights\nno GPU found"),
        ("loads for ever", r"not ready after engine\.startup_timeout=1; the end of its log:"),
        ("refuses", r"vLLM answered with HTTP status 400: .*the prompt is too long"),
        ("goes away", r"vLLM stopped responding .*the end of its log:\nloading weights"),
    ],
)
def test_a_server_that_fails_is_one_message_and_no_process(vllm, base, tokenizer, mode, expected):
    make, record = vllm
    seconds = 1 if mode == "loads for ever" else 120
    config = make(mode, f"engine.startup_timeout={seconds}")
    with (
        pytest.raises(UserError, match=f"(?s){expected}"),
        get_engine(config, base, tokenizer) as engine,
    ):
        ask(engine)
    assert alive(record) == []


def test_a_server_that_reads_other_tokens_is_a_defect(vllm, base, tokenizer):
    make, _ = vllm
    with (
        pytest.raises(RuntimeError, match="different prompt tokens"),
        get_engine(make("adds a token"), base, tokenizer) as engine,
    ):
        ask(engine)


def test_an_interrupt_ends_requests_under_way_and_the_server(vllm, base, tokenizer):
    make, record = vllm
    started = time.perf_counter()

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), get_engine(make("hangs"), base, tokenizer) as engine:
            assert len(alive(record)) == 2
            signal.alarm(1)
            ask(engine)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.perf_counter() - started < 55  # the server would have taken 60 s
    assert alive(record) == []


def test_a_scheduler_that_ends_us_ends_the_server(vllm, base, tmp_path):
    make, record = vllm
    (tmp_path / "config.json").write_text(make().model_dump_json(by_alias=True))
    code = f"""
import sys, time
from stages.core.models.base_models import ModelFiles
from stages.core.config.schema import Config
from stages.core.inference.engine import get_engine
config = Config.model_validate_json(open({str(tmp_path / "config.json")!r}).read())
with get_engine(config, ModelFiles({base.path!r}, None, None), None):
    print("up", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "up\n"
        assert len(alive(record)) == 1
        child.terminate()
        assert child.wait(55) == 128 + signal.SIGTERM
    assert alive(record) == []


def test_without_vllm_the_message_says_how_to_get_it(config, base, tokenizer, workspace):
    message = r"no \.venv-vllm/bin/vllm\. Run `make vllm`"
    with (
        pytest.raises(UserError, match=message),
        get_engine(config("engine=vllm"), base, tokenizer),
    ):
        pass
    assert "vllm:" in (ROOT / "Makefile").read_text()


def test_a_queued_experiment_finds_vllm_in_the_repository(
    vllm, config, base, tokenizer, tmp_path, monkeypatch
):
    _, record = vllm
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    args = f"engine.args=[--mode,answers,--record,{record}]"
    with get_engine(
        config("engine=vllm", "engine.command=[bin/vllm,serve]", args), base, tokenizer
    ) as engine:
        assert len(ask(engine)) == len(PROMPTS)
