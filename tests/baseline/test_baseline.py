import json

import pytest

from stages.baseline.__main__ import main
from stages.baseline.arms import choose
from stages.baseline.shots import draw_shots, get_shots
from stages.core.arms import BASE_ARMS
from stages.core.predictions import Prediction, prompted_arms, read_predictions
from stages.core.retrieval import Words
from tests.chat_server import ChatServer, completion, failure
from tests.conftest import TINY, compose_config


def test_shots_come_from_the_training_split_alone_and_by_the_seed(prepared):
    train, test = prepared["train"], prepared["test"]
    for arm, count in (("zero_shot", 0), ("few_shot", 3), ("retrieval", 3)):
        shots = get_shots(arm, train, test, 3, 1, Words(train))
        assert len(shots) == len(test)
        assert all(len(row) == count and all(shot in train for shot in row) for row in shots)

    def drawn(seed):
        return get_shots("few_shot", train, test, 3, seed, Words(train))

    assert drawn(1) == drawn(1) != drawn(2)


def test_every_arm_answers_every_row(prepared, workspace):
    main(compose_config(*TINY, "prompt.shots=[2]"))
    for arm in BASE_ARMS:
        assert [p.id for p in read_predictions(arm)] == [record.id for record in prepared["test"]]
    numbers = json.loads((workspace / "metrics/baseline.json").read_text())
    assert numbers["zero_shot"]["prompt_tokens"] < numbers["few_shot"]["prompt_tokens"]
    choices = json.loads((workspace / "predictions/choices.json").read_text())
    assert numbers.pop("general_seconds") > 0
    assert list(numbers) == list(choices) == list(BASE_ARMS) and read_predictions("remote") == []


def test_each_arm_chooses_on_validation_rows(prepared, config):
    checked = config("prompt.shots=[1,3]", "prompt.variants=[Short]", "prompt.trial_rows=4")
    asked = []

    def asker(arm, records, instruction, k):
        asked.append((arm, instruction, k))
        good = k == 3 and instruction == "Short"
        return [Prediction(r.id, arm, r.target if good else "", 10 * k, 1, 0.1) for r in records]

    choice = choose(checked, asker, "few_shot", prepared["validation"])
    assert asked == [("few_shot", text, k) for text in (None, "Short") for k in (1, 3)]
    assert (choice.instruction, choice.shots, choice.rows) == ("Short", 3, 4) and len(choice.trials) == 4
    assert choose(checked, asker, "zero_shot", prepared["validation"]).shots == 0


def test_of_equal_ways_the_shortest_wins_and_one_way_needs_no_trial(prepared, config):
    def asker(arm, records, instruction, k):
        return [Prediction(record.id, arm, record.target, 10 * k, 1, 0.1) for record in records]

    assert choose(config("prompt.shots=[3,1]"), asker, "few_shot", prepared["validation"]).shots == 1
    assert choose(config("prompt.shots=[3]"), None, "few_shot", prepared["validation"]).trials == []


def test_shots_that_do_not_fit_are_left_out(prepared, workspace):
    main(compose_config(*TINY, "prompt.shots=[5]", "model.max_length=200"))
    assert all(p.prompt_tokens <= 192 for arm in BASE_ARMS for p in read_predictions(arm))


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
    where = (f"prompt.remote.url={server.url}", "prompt.remote.model=big", "prompt.remote.retries=0")
    main(compose_config(*TINY, "prompt.shots=[2]", "remote=local-server", *where, *overrides))


def test_the_remote_arm_chooses_and_answers_as_the_others_do(prepared, workspace, server):
    run_with(server)
    answers = read_predictions("remote")
    assert [(p.id, p.arm, p.text) for p in answers] == [(r.id, "remote", r.target) for r in prepared["test"]]
    assert all(p.seconds > 0 and p.completion_tokens == 2 for p in answers)
    choices = json.loads((workspace / "predictions/choices.json").read_text())
    assert list(choices) == [*BASE_ARMS, "remote"] and "endpoint" not in choices["few_shot"]
    remote = choices["remote"]
    assert [(trial["shots"], trial["score"]) for trial in remote["trials"]] == [(0, 0), (2, 1)] and remote["shots"] == 2
    told = {"answered_by": ["big-0601"], "fingerprints": ["fp_1"], "cut": 0, "without_usage": 0}
    assert remote["endpoint"] == {"url": server.url, "model": "big", **told}
    numbers = json.loads((workspace / "metrics/baseline.json").read_text())
    assert list(numbers) == [*BASE_ARMS, "remote", "general_seconds"] and numbers["remote"]["completion_tokens"] == 2


def test_the_remote_arm_shows_the_examples_of_few_shot(prepared, workspace, server, config):
    run_with(server, "prompt.instruction=Short.")
    with_shots = [body["messages"] for body in server.bodies if len(body["messages"]) > 2]
    shown = [message for shot in draw_shots(prepared["train"], 2, config().seed) for message in shot.messages[1:]]
    assert len(server.bodies) == 6 + 6 + 10 and len(with_shots) == 6 + 10
    assert all(said[:-1] == [{"role": "system", "content": "Short."}, *shown] for said in with_shots)
    assert server.bodies[0]["max_tokens"] == 8 and server.bodies[0]["seed"] == config().seed


def test_an_endpoint_that_fails_stops_before_the_base_model_works(prepared, workspace, server, monkeypatch):
    monkeypatch.setattr("stages.baseline.__main__.get_base_model", lambda *_: pytest.fail("the base model was loaded"))
    server.respond = lambda body: failure(404, "there is no big")
    with pytest.raises(
        SystemExit, match=r"^\nbaseline: prompt\.remote: big at http\S+ is not there: there is no big\. "
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
    assert "10 of 10 answers are empty, for the model used up its 8 tokens" in said
    assert "does not tell how many tokens 10 of 10 answers took; they count as 0" in said


def test_which_arms_are_prompted(config):
    assert prompted_arms(config()) == BASE_ARMS
    assert prompted_arms(config("remote=openai", "prompt.remote.model=x")) == (*BASE_ARMS, "remote")
