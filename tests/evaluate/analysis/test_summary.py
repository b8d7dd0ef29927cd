import pytest

from stages.evaluate.analysis.summary import (
    count_right,
    get_answer,
    get_costs,
    get_forgetting,
    get_looks,
    get_missing,
    get_quality,
    get_seeds,
    say,
)
from tests.core.statistics.test_bounds import binary, ratios


def report(**changes):
    def arm(value):
        return {"exact_match": {"value": value}, "health": {"commonest": "No entities found"}}

    arms = {"constant": arm(0.5), "lookup": arm(0.9), "few_shot": arm(0.4), "tuned": arm(0.7)}
    return {
        "verdict": "fine-tune", "recommended_arm": "tuned", "min_useful_value": None, "arms": arms,
        "candidate": "tuned", "truncation": {"decides": False, "arms": {}},
        "best_prompted_arm": "few_shot", "model_free_arms": ["constant", "lookup"], "tuned_arms": ["tuned"],
        "primary_metric": "exact_match", "rows": 300, "min_rows": 50, "split": "test",
        "prompt_search": {"thorough": False}, "seeds": {"count": 1},
        "counts": {"right": 210, "right_instead": 120, "better": 94, "worse": 4, "rows": 300},
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "arm", "said"),
    [
        ("fine-tune", "tuned", "Yes, fine-tune: use tuned."),
        ("prompt", "few_shot", "No: prompting with few_shot is enough."),
        ("no-model", "lookup", "No, and no model is needed: lookup does as well without one."),
        ("neither", None, "nothing beats always answering “No entities found”."),
        ("not-enough-evidence", "few_shot", "Not enough evidence yet: stay with few_shot"),
        ("not-enough-evidence", None, "no arm was shown to be worth using"),
    ],
)
def test_the_answer_says_what_to_do(verdict, arm, said):
    assert said in get_answer(report(verdict=verdict, recommended_arm=arm))


def test_few_rows_are_the_reason_where_they_are_few():
    few = report(verdict="not-enough-evidence", recommended_arm=None, rows=37)
    assert (
        get_answer(few)
        == "Not enough evidence yet: only 37 rows were judged, and a verdict needs at least 50."
    )


def test_quality_is_told_in_requests():
    assert get_quality(report()) == (
        "Of 300 requests, tuned gets 210 right, against 120 for few_shot, the best prompted arm "
        "(94 better, 4 worse). Always answering “No entities found” gets 150 right, lookup gets 270."
    )
    assert "tuned scores 0.700 in exact_match" in get_quality(report(counts=None))
    assert "tuned (the first of its 3 training seeds) gets" in get_quality(
        report(seeds={"count": 3})
    )


def test_rows_that_are_right_or_wrong_are_counted():
    assert count_right(binary(1, 1, 0, 1), binary(1, 0, 1, 0)) == {
        "right": 3, "right_instead": 2, "better": 2, "worse": 1, "rows": 4
    }  # fmt: skip
    assert count_right(ratios([0.5], [1.0]), binary(1)) is None


@pytest.mark.parametrize(
    ("verdict", "said"),
    [("fine-tune", True), ("prompt", True), ("no-model", False), ("neither", False)],
)
def test_costs_of_models_are_for_who_is_to_use_one(verdict, said):
    assert (
        get_costs(report(verdict=verdict, costs={"sentence": "Training 1 USD."})) is not None
    ) == said


def test_what_was_forgotten_is_for_who_is_to_use_the_tuned_model():
    everything = {"base": {"value": 0.4}, "tuned": {"value": 0.1}, "difference": {"ci_high": -0.2}}
    lost = {"forgetting": {"abilities": [everything]}}
    said = get_forgetting(report(**lost))
    assert "10.0% of the general questions correctly, the base model 40.0%. Use" in said
    assert "for this task only" in said
    assert get_forgetting(report(**lost, verdict="prompt")) is None


def test_what_a_first_run_has_not_had_is_said():
    sentence = get_missing(report())
    assert "more training seeds, a rival training method and the full prompt search" in sentence
    whole = report(
        seeds={"count": 3}, tuned_arms=["tuned", "encoder"], prompt_search={"thorough": True}
    )
    assert get_missing(whole) is None


def test_a_later_look_is_said_on_the_first_screen():
    first = {"place": 1, "sentence": "This is the first model judged on these test rows."}
    assert get_looks(report(looks=first)) is None
    assert get_looks(report(looks={"place": 14, "sentence": "The 14th model"})) == "The 14th model"


def test_seeds_vote():
    found = get_seeds(["fine-tune", "fine-tune", "prompt"], "fine-tune", [0.7, 0.72, 0.6])
    assert found["sentence"].startswith("2 of 3 training seeds") and found[
        "spread"
    ] == pytest.approx(0.0643, abs=1e-4)
    assert get_seeds([], "fine-tune", [0.7])["sentence"] is None


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        (None, "at most +0.110)."),
        ({"low": 900, "high": 4000}, "Between 900 and 4,000 rows would settle it."),
        (
            {"low": 900, "high": None},
            "Settling it takes at least 900 rows. Possibly no number of rows is enough, because the "
            "difference may equal the margin.",
        ),
    ],
)
def test_a_comparison_says_how_many_rows_would_settle_it(needed, said):
    c = {
        "arm": "tuned", "against": "few_shot", "metric": "exact_match", "difference": 0.05, "ci_low": -0.02,
        "ci_high": 0.12, "bound_low": -0.01, "bound_high": 0.11, "rows_needed": needed,
    }  # fmt: skip
    assert say(c, 0.95).endswith(said)
