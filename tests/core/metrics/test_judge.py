import logging

import pytest

from stages.core.data.predictions import Prediction
from stages.core.errors import UserError
from stages.core.metrics.metrics import Metrics
from tests.chat_server import ChatServer, completion, failure
from tests.conftest import chat
from tests.core.metrics.test_metrics import load_module


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ChatServer(lambda body: completion(longer(body), body)) as server:
        yield server


def answers(body):
    """The two answers that the judge sees."""
    text = body["messages"][-1]["content"]
    return [text.split(f"<answer_{place}>\n")[1].split(f"\n</answer_{place}>")[0] for place in "AB"]


def longer(body):
    """A judge that likes long answers, wherever they stand."""
    a, b = map(len, answers(body))
    return "A" if a > b else "B" if b > a else "TIE"


def says(text):
    return lambda body: completion(text, body)


def judge(server, *pairs, metrics=None, **options):
    metrics = metrics or Metrics(["judge"], {"judge": server.settings(**options)})
    records = [chat(f"Question {n}?", target) for n, (_, target) in enumerate(pairs)]
    given = [
        Prediction(r.id, "few_shot", text, 1, 1, 0.1)
        for r, (text, _) in zip(records, pairs, strict=True)
    ]
    scores = metrics.score_records(given, records)["judge"]
    return scores, metrics.metadata()["judge"]


def test_as_good_as_the_target_or_not(server):
    scores, facts = judge(
        server, ("longer", "long"), ("lo", "long"), ("same", "size"), (" equal\n", "equal")
    )
    assert scores.rows.tolist() == [[1, 1], [0, 1], [1, 1], [1, 1]] and scores.value == 0.75
    assert (facts["rows_judged"], facts["rows_identical"], facts["orders_disagreed"]) == (3, 1, 0)
    assert len(server.bodies) == 6  # nothing is asked about an answer that is the target


def test_each_pair_is_shown_in_both_orders_with_its_question(server):
    judge(server, ("mine", "wanted"), instruction="Be strict.")
    assert sorted(map(answers, server.bodies)) == [["mine", "wanted"], ["wanted", "mine"]]
    for body in server.bodies:
        system, user = body["messages"]
        assert system["content"] == "Be strict." and "user: Question 0?" in user["content"]
        assert "assistant:" not in user["content"] and body["temperature"] == 0


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_judge_that_looks_at_the_place_alone_says_nothing_and_is_found_out(server, place):
    server.respond = says(place)
    scores, facts = judge(server, ("x", "yy"), ("zz", "w"))
    assert scores.values.tolist() == [0.5, 0.5] and facts["orders_disagreed"] == 2


def test_a_win_in_one_order_and_a_tie_in_the_other_disagree_but_are_both_as_good(server):
    server.respond = lambda body: completion("A" if answers(body)[0] == "mine" else "TIE", body)
    scores, facts = judge(server, ("mine", "wanted"))
    assert scores.values.tolist() == [1] and facts["orders_disagreed"] == 1


def test_what_cannot_be_read_counts_half_and_is_counted(server, caplog):
    caplog.set_level(logging.INFO)
    server.respond = lambda body: completion(
        "I cannot say" if answers(body)[0] == "mine" else "A", body
    )
    scores, facts = judge(server, ("mine", "wanted"), ("mine", "other"))
    assert scores.values.tolist() == [0.25, 0.25]  # the other order prefers the target
    assert (facts["replies_unreadable"], facts["orders_disagreed"]) == (2, 0)
    assert "2 of 4 replies" in caplog.text


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("A", "A"),
        (" b.\n", "B"),
        ("**TIE**", "TIE"),
        ("[[B]]", "B"),
        ("Answer: A", "A"),
        ("The better answer is B.", "B"),
        ("Answer A is better.", "A"),
        ("<think>A or B? B.</think>\n\nTIE", "TIE"),
        ("B, because A forgets the date", None),
        ("A or B", None),
        ("Apples", None),
        ("", None),
    ],
)
def test_how_a_reply_is_read(reply, choice):
    assert load_module("judge").read_choice(reply) == choice


def test_the_facts_say_who_judged_and_how_and_add_up_over_the_arms(server):
    metrics = Metrics(["judge"], {"judge": server.settings()})
    judge(server, ("longer", "long"), metrics=metrics)
    _, facts = judge(server, ("lo", "long"), ("equal", "equal"), metrics=metrics)
    module = load_module("judge")
    assert facts == {
        "description": "Measures how often a judge model finds an answer at least as good as the target.",
        "lower_is_better": False,
        "base_url": server.url,
        "model": "big",
        "answered_by": ["big-0601"],
        "instruction": module.INSTRUCTION,
        "layout": module.LAYOUT,
        "orders_swapped": True,
        "rows_judged": 2,
        "rows_identical": 1,
        "orders_disagreed": 0,
        "replies_unreadable": 0,
        "options": server.settings(),
    }


def test_every_metric_has_facts():
    facts = Metrics(["rouge"], {}).metadata()["rouge"]
    assert facts["description"].startswith(
        "Averages the ROUGE F1 (Lin, 2004) of the rows, as the package"
    )
    assert facts["lower_is_better"] is False and "\n" not in facts["description"]


def test_a_second_run_pays_for_nothing(server):
    first, _ = judge(server, ("longer", "long"))
    server.respond = lambda body: failure(500, "down")
    again, _ = judge(server, ("longer", "long"))
    assert again.rows.tolist() == first.rows.tolist() and len(server.bodies) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_url": "ftp://x"}, "judge: base_url: String should match pattern"),
        (
            {"max_concurrency": 0, "timeout": "5"},
            "max_concurrency: Input should be greater than or equal to 1; timeout: Input should",
        ),
        ({"temperature": 1}, "temperature: Extra inputs are not permitted"),
        ({"instruction": 3}, "instruction: must be a string or null, got 3"),
    ],
)
def test_a_bad_option_is_named(server, changes, said):
    with pytest.raises(UserError) as error:
        judge(server, ("a", "b"), **changes)
    text = str(error.value)
    assert text.startswith("evaluate.options.judge: ") and said in text and "\n" not in text


def test_an_option_that_is_missing_is_named():
    with pytest.raises(
        UserError,
        match=r"evaluate\.options\.judge: base_url: Field required; model: Field required",
    ):
        Metrics(["judge"], {}).score(["a"], ["b"])


def test_an_endpoint_that_fails_is_named_by_its_options(server):
    server.respond = lambda body: failure(404, "no such model")
    with pytest.raises(
        UserError, match=r"^evaluate\.options\.judge: big at http\S+ was not found: no such model"
    ):
        judge(server, ("a", "b"))


def test_plain_use_of_the_module_without_records(server):
    import evaluate

    from stages.core.metrics.metrics import METRICS_FOLDER

    module = evaluate.load(str(METRICS_FOLDER / "judge" / "judge.py"))
    found = module.compute(
        predictions=["longer", "lo"], references=["long", "long"], **server.settings()
    )
    assert found["judge"] == 0.5 and "(not known)" in server.bodies[0]["messages"][1]["content"]
