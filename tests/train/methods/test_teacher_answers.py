"""A model learns the answers of a teacher behind a server, and everything else stays the data set's."""

import json
import logging
from pathlib import Path

import pytest

from stages.core.config.schema import parse
from stages.core.data.records import Record, read_records
from stages.core.errors import UserError
from stages.core.models.loading import TUNED
from stages.core.storage.files import read_json, sha256_file
from stages.core.tracking.tracker import Tracker
from stages.train.__main__ import main
from stages.train.build_trainer import get_trainer
from stages.train.methods import get_method
from stages.train.methods.sft import Answers
from stages.train.methods.teacher_answers import FILE, TeacherAnswers
from tests.chat_server import ChatServer, completion, failure
from tests.conftest import TINY, chat, compose_config

KEY = "sk-very-secret-0123456789"
FAST = ("tracking=disabled", "train.args.num_train_epochs=1", "train.args.learning_rate=1e-2")


def get_number(body):
    return int(body["messages"][-1]["content"].split()[-1].removesuffix("."))


def answer(body):
    return completion(f"{get_number(body)}!", body)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ChatServer(answer) as server:
        yield server


def get_overrides(server, *more):
    endpoint = ("prompt/remote=local-server", "prompt.remote.model=big", "prompt.remote.timeout=60")
    here = (f"prompt.remote.base_url={server.url}", "prompt.remote.max_retries=0")
    return ("train=distill", *endpoint, *here, "prompt.system_prompt=Shout.", *more)


@pytest.fixture
def method(config, server):
    return lambda *more: get_method(config(*get_overrides(server, *more)))


def test_the_teachers_answers_replace_the_targets_of_training_rows(method, prepared, server):
    distilled = method()
    records = distilled.get_records(prepared["train"], Path("run"))
    assert isinstance(distilled, TeacherAnswers)
    assert [r.target for r in records] == [f"{n}!" for n in range(24)]
    assert [r.id for r in records] == [r.id for r in prepared["train"]]
    assert [r.prompt for r in records] == [r.prompt for r in prepared["train"]]
    asked = {body["messages"][0]["content"] for body in server.bodies}
    assert asked == {"Shout."} and {body["max_tokens"] for body in server.bodies} == {8}


def test_only_the_training_rows_are_of_the_teacher(prepared, server, workspace):
    config = parse(compose_config(*TINY, *FAST, *get_overrides(server)))
    folder = workspace / "run"
    trainer = get_trainer(
        get_method(config),
        *(prepared["train"], prepared["validation"], Tracker(config, None), str(folder)),
    )
    kept = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    assert [row["messages"][-1]["content"] for row in kept] == [f"{n}!" for n in range(24)]
    tokenizer = trainer.processing_class
    learned = [
        tokenizer.decode([token for token in row["labels"] if token >= 0])
        for row in (trainer.train_dataset[1], trainer.eval_dataset[1])
    ]
    assert learned == ["1!<|im_end|>", "number 25<|im_end|>"]


def test_training_records_the_teacher_and_what_it_took(prepared, server, caplog, monkeypatch):
    monkeypatch.setenv("THE_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    main(compose_config(*TINY, *FAST, *get_overrides(server, "prompt.remote.api_key_env=THE_KEY")))
    facts = read_json(TUNED / "training.json")
    teacher = facts["teacher"]
    assert teacher["model"] == "big" and teacher["answered_by"] == ["big-0601"]
    assert teacher["asked"] == teacher["learned"] == 24
    assert teacher["left_out"] == {"cut": 0, "empty": 0} and teacher["same_as_target"] == 0
    tokens = {name: teacher[name] for name in ("prompt_tokens", "completion_tokens")}
    assert tokens["completion_tokens"] == 24
    assert tokens == facts["numbers"]["teacher"] == read_json(Path("metrics/train.json"))["teacher"]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text
    assert all(KEY not in path.read_text() for path in TUNED.glob("*.json"))
    assert len(server.bodies) == 24
    for split in ("train", "validation", "test"):
        assert read_records(split) == prepared[split]


def test_a_killed_run_asks_only_for_what_is_missing(prepared, server, method):
    server.respond = lambda body: failure(500, "down") if get_number(body) == 23 else answer(body)
    one_by_one = "prompt.remote.max_concurrency=1"
    with pytest.raises(UserError, match=r"train\.teacher\.endpoint: big at .* failed"):
        method(one_by_one).get_records(prepared["train"], Path("run"))
    assert not Path("run").exists()
    server.respond = answer
    server.bodies.clear()
    method(one_by_one).get_records(prepared["train"], Path("run"))
    assert [get_number(body) for body in server.bodies] == [23]
    server.bodies.clear()
    again = method()
    assert len(again.get_records(prepared["train"], Path("run"))) == 24
    assert not server.bodies
    assert again.metadata["teacher"]["sha256"] == sha256_file(Path("run") / FILE)


def test_answers_that_are_cut_or_empty_are_left_out_and_counted(prepared, server, method, caplog):
    def respond(body):
        number = get_number(body)
        status, value = completion("" if number == 3 else f"{number}!", body)
        value["choices"][0]["finish_reason"] = "length" if number in (5, 6) else "stop"
        return status, value

    server.respond = respond
    distilled = method()
    records = distilled.get_records(prepared["train"], Path("run"))
    assert [r.target for r in records] == [f"{n}!" for n in range(24) if n not in (3, 5, 6)]
    facts = distilled.metadata["teacher"]
    assert facts["left_out"] == {"cut": 2, "empty": 1}
    assert (facts["asked"], facts["learned"]) == (24, 21)
    assert "3 of 24 answers of big are left out: 2 were cut" in caplog.text


def test_a_teacher_without_useful_answers_is_refused(prepared, server, method):
    server.respond = lambda body: completion("<think>hmm", body)
    with pytest.raises(UserError, match=r"24 of 24 answers .* 24 are empty\. Raise train\.teacher"):
        method().get_records(prepared["train"], Path("run"))


def test_only_the_teachers_answer_of_a_long_chat_is_learned(method, workspace):
    turns = [*chat("One 1.", "own answer").messages, *chat("Two 2.", "own target").messages]
    distilled = method("prompt.tuned_system_prompt=null")
    records = distilled.get_records([Record.of(turns)], Path("run"))
    [row] = distilled.get_examples(records)
    learned = [token for token in row["labels"] if token >= 0]
    assert distilled.tokenizer.decode(learned) == "2!<|im_end|>"
    assert "own answer" in distilled.tokenizer.decode(row["input_ids"])


def test_functions_are_refused_before_anybody_is_asked(method, server, workspace):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    record = Record.of(chat("Call 1.", "done").messages, tools=tools)
    with pytest.raises(UserError, match=f"{record.id} has functions to call"):
        method().get_records([record], Path("run"))
    assert not server.bodies


def test_a_dry_run_asks_nobody(prepared, server):
    main(compose_config(*TINY, *FAST, *get_overrides(server, "train.dry_run=true")))
    assert not server.bodies


def test_a_teacher_must_be_given_and_answers_chats(config, server):
    with pytest.raises(UserError, match=r"train\.teacher\.endpoint: distillation needs a teacher"):
        config("train=distill")
    with pytest.raises(UserError, match=r"train\.teacher: a teacher answers chats for method sft"):
        config(*get_overrides(server, "train.record_types=[text]"))


def test_training_is_repeated_only_for_other_answers(config, server):
    effective = [
        config(*get_overrides(server, *more)).train.get_effective()
        for more in ((), ("prompt.remote.timeout=9",), ("prompt.remote.model=bigger",))
    ]
    assert effective[0] == effective[1] != effective[2]


def test_dvc_depends_on_the_client_if_there_is_a_teacher(config, server):
    assert config(*get_overrides(server)).train.teacher_dvc_dependency == "stages/core/endpoint"
    assert config().train.teacher_dvc_dependency != "stages/core/endpoint"


def test_without_a_teacher_the_targets_are_learned(config, prepared):
    plain = get_method(config())
    assert type(plain) is Answers
    assert plain.get_records(prepared["train"], Path("run")) is prepared["train"]
