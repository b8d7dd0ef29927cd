import json

import pytest

from stages.baseline.__main__ import main
from stages.baseline.candidates import Candidate
from stages.baseline.shots import draw_shots
from stages.core.config.arms import BASE_ARMS, CONSTRAINED_ARM
from stages.core.data.predictions import prompted_arms, read_predictions
from stages.core.data.records import PREPARED
from stages.core.storage.files import write_json, write_jsonl
from tests.chat_server import ChatServer, completion, failure
from tests.conftest import TINY, chat, compose_config

FREE_ARMS = [arm for arm in BASE_ARMS if arm != CONSTRAINED_ARM]


def test_every_arm_answers_every_row(prepared, workspace):
    main(compose_config(*TINY, "prompt.shots=[2]"))
    for arm in FREE_ARMS:
        assert [p.id for p in read_predictions(arm)] == [record.id for record in prepared["test"]]
    numbers = json.loads((workspace / "metrics/baseline.json").read_text())
    assert numbers["zero_shot"]["prompt_tokens"] < numbers["few_shot"]["prompt_tokens"]
    choices = json.loads((workspace / "predictions/choices.json").read_text())
    assert numbers.pop("general_suite_seconds") > 0
    assert (
        list(numbers) == ["constant", "nearest", *FREE_ARMS]
        and list(choices) == list(BASE_ARMS)
        and read_predictions("remote") == []
    )
    assert (
        read_predictions(CONSTRAINED_ARM) == []
        and "24 different targets" in choices[CONSTRAINED_ARM]["reason"]
    )
    assert all(choices[arm]["left_out"] == {"rows": 0, "shots": 0} for arm in FREE_ARMS)
    assert all(p.cut == (p.completion_tokens == 8) for p in read_predictions("zero_shot"))


def test_shots_that_do_not_fit_are_left_out_and_counted(prepared, workspace):
    main(compose_config(*TINY, "prompt.shots=[5]", "model.max_length=200"))
    choices = json.loads((workspace / "predictions/choices.json").read_text())
    for arm in FREE_ARMS:
        answers = read_predictions(arm)
        assert all(p.prompt_tokens <= 192 for p in answers)
        left_out = [p.shots_left_out for p in answers]
        assert choices[arm]["left_out"] == {
            "rows": sum(map(bool, left_out)),
            "shots": sum(left_out),
        }
    assert (
        choices["few_shot"]["left_out"]["rows"] == 10
        and choices["zero_shot"]["left_out"]["rows"] == 0
    )


@pytest.fixture
def classes(workspace):
    """Rows of three classes, in `data/prepared`."""
    for name, numbers in {
        "train": range(30),
        "validation": range(30, 60),
        "test": range(60, 70),
    }.items():
        write_jsonl(
            PREPARED / f"{name}.jsonl",
            [chat(f"Sort {n}.", ("a", "bb", "bbc")[n % 3]) for n in numbers],
        )


def test_answers_are_held_to_a_closed_set_of_targets(classes, workspace):
    main(compose_config(*TINY, "prompt.shots=[2]", "evaluate=classes"))
    answers = read_predictions(CONSTRAINED_ARM)
    assert (
        len(answers) == 10
        and {p.text for p in answers} <= {"a", "bb", "bbc"}
        and not any(p.cut for p in answers)
    )
    assert not {p.text for p in read_predictions("few_shot")} & {
        "a",
        "bb",
        "bbc",
    }  # an untrained model says no such
    choices = json.loads((workspace / "predictions/choices.json").read_text())
    tried = {trial["examples"] for trial in choices[CONSTRAINED_ARM]["trials"]}
    assert (
        tried == {"none", "drawn", "similar"} and choices[CONSTRAINED_ARM]["allowed_answers"] == 3
    )


def test_a_thorough_search_fills_the_context_within_the_tokens_of_training(classes, workspace):
    options = (
        *TINY,
        "prompt/search=thorough",
        "prompt.shots=[2]",
        "model.max_length=500",
        "evaluate=classes",
    )
    write_json(PREPARED / "training_tokens.json", {"tokens": 60_000})
    main(compose_config(*options))
    choices = json.loads((workspace / "predictions/choices.json").read_text())
    found = choices["few_shot"]
    shots = {trial["shots"] for trial in found["trials"]}
    assert (
        {2, 4} < shots
        and max(shots) > 4
        and {trial["balanced"] for trial in found["trials"]} == {True, False}
    )
    assert found["budget"] == 60_000 and 10_000 < found["tokens"] <= 60_000 and found["rows"] == 30
    assert found["left_out"]["rows"] == 0 and found["spread"]["order"]["candidates"] == 2
    again = (workspace / "predictions/few_shot.jsonl").read_text().count('"text"')
    assert again == 10


def test_a_budget_of_training_that_prepare_did_not_count_is_said(prepared, workspace):
    write_json(PREPARED / "training_tokens.json", {"tokens": None})
    with pytest.raises(
        SystemExit, match=r"training_tokens.json has no token count .* run prepare with the same"
    ):
        main(compose_config(*TINY, "prompt/search=thorough"))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A model that knows what is wanted once it has seen three messages."""
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def respond(body):
        number = body["messages"][-1]["content"].split()[-1].rstrip(".")
        return completion(f"number {number}" if len(body["messages"]) > 3 else "Hm?", body)

    with ChatServer(respond) as server:
        yield server


def run_with(server, *overrides):
    quick = ("prompt.search.draws=1", "prompt.search.reversed=false")
    where = (
        f"prompt.remote.base_url={server.url}",
        "prompt.remote.model=big",
        "prompt.remote.max_retries=0",
    )
    main(
        compose_config(
            *TINY, "prompt.shots=[2]", *quick, "prompt/remote=local-server", *where, *overrides
        )
    )


def test_the_remote_arm_chooses_and_answers_as_the_others_do(prepared, workspace, server):
    run_with(server)
    answers = read_predictions("remote")
    assert [(p.id, p.arm, p.text) for p in answers] == [
        (r.id, "remote", r.target) for r in prepared["test"]
    ]
    assert all(p.seconds > 0 and p.completion_tokens == 2 for p in answers)
    choices = json.loads((workspace / "predictions/choices.json").read_text())
    assert list(choices) == [*BASE_ARMS, "remote"] and "endpoint" not in choices["few_shot"]
    remote = choices["remote"]
    assert [(trial["shots"], trial["score"]) for trial in remote["trials"]] == [
        (0, 0),
        (2, 1),
    ] and remote["shots"] == 2
    told = {"answered_by": ["big-0601"], "fingerprints": ["fp_1"], "cut": 0, "without_usage": 0}
    assert remote["endpoint"] == {"base_url": server.url, "model": "big", **told}
    numbers = json.loads((workspace / "metrics/baseline.json").read_text())
    assert (
        set(numbers) == {"constant", "nearest", *FREE_ARMS, "remote", "general_suite_seconds"}
        and numbers["remote"]["completion_tokens"] == 2
    )


def test_the_remote_arm_shows_the_examples_of_few_shot(prepared, workspace, server, config):
    run_with(server, "prompt.system_prompt=Short.")
    with_shots = [body["messages"] for body in server.bodies if len(body["messages"]) > 2]
    chosen = Candidate("Short.", "drawn", 2, config().seed, "given", balanced=False)
    shown = [
        message for shot in draw_shots(prepared["train"], chosen) for message in shot.messages[1:]
    ]
    assert len(server.bodies) == 6 + 6 + 10 and len(with_shots) == 6 + 10
    assert all(
        said[:-1] == [{"role": "system", "content": "Short."}, *shown] for said in with_shots
    )
    assert server.bodies[0]["max_tokens"] == 8 and server.bodies[0]["seed"] == config().seed


def test_an_endpoint_that_fails_stops_before_the_base_model_works(
    prepared, workspace, server, monkeypatch
):
    monkeypatch.setattr(
        "stages.baseline.__main__.get_base_model",
        lambda *_: pytest.fail("the base model was loaded"),
    )
    server.respond = lambda body: failure(404, "there is no big")
    with pytest.raises(
        SystemExit,
        match=r"^\nbaseline: prompt\.remote: big at http\S+ was not found: there is no big\. ",
    ):
        run_with(server)


def test_what_would_be_unfair_to_the_remote_arm_is_said(prepared, workspace, server, capsys):
    def respond(body):
        status, answer = completion("", body, usage=False)
        answer["choices"][0]["finish_reason"] = "length"
        return status, answer

    server.respond = respond
    run_with(server)
    said = capsys.readouterr().err
    assert "10 of 10 answers are empty because the model used up its 8 tokens" in said
    assert "did not report the token usage of 10 of 10 answers. They count as 0 tokens" in said


def test_which_arms_are_prompted(config):
    assert prompted_arms(config()) == BASE_ARMS
    assert prompted_arms(config("prompt/remote=openai", "prompt.remote.model=x")) == (
        *BASE_ARMS,
        "remote",
    )
