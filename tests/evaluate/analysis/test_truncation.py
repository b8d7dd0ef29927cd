"""Answers that the token limit ended must not decide a verdict."""

import numpy as np
import pytest

from stages.core.data.predictions import Prediction
from stages.core.metrics.metrics import Metrics
from stages.core.statistics.scores import Scores
from stages.evaluate.analysis.judging import Contest, judge
from stages.evaluate.analysis.summary import get_answer, get_summary
from stages.evaluate.analysis.truncation import Truncation, count_as_right, count_cut
from tests.conftest import chat
from tests.core.statistics.test_bounds import binary
from tests.evaluate.report.made_up import make_report

ROWS = 200
LABELS = ["NUM", "HUM", "LOC", "DESC"]
RECORDS = [chat("?", LABELS[i % 4]) for i in range(ROWS)]
CONTEST = Contest.of(["constant", "few_shot"], ["tuned"])


def answers(*parts):
    """Answers in the order of (number, text or None for the target, cut)."""
    found = [(text, cut) for count, text, cut in parts for _ in range(count)]
    assert len(found) == ROWS
    return [
        Prediction(
            record.id, "few_shot", record.target if text is None else text, 1, 1, 0.1, cut=cut
        )
        for record, (text, cut) in zip(RECORDS, found, strict=True)
    ]


CONSTANT = answers((ROWS, "NUM", None))
GOOD = answers((180, None, False), (20, "HUM HUM", False))


def decide(config, few_shot, tuned, *overrides):
    metric = "accuracy"
    metrics = Metrics([metric], {})
    given = {"constant": CONSTANT, "few_shot": few_shot, "tuned": tuned}
    runs = {
        arm: {metric: [metrics.score_records(found, RECORDS)[metric]]}
        for arm, found in given.items()
    }
    uncut = {
        arm: [count_as_right(metrics, metric, RECORDS, found, runs[arm][metric][0])]
        for arm, found in given.items()
    }
    checked = config(
        f"evaluate.metrics=[{metric}]", f"evaluate.primary_metric={metric}", *overrides
    )
    return judge(checked, CONTEST, runs, None, uncut=uncut).verdict


@pytest.mark.parametrize(
    ("text", "cut", "verdict"),
    [
        ("I think", False, "fine-tune"),  # it ended its wrong answer itself
        ("I think", True, "fine-tune"),  # no label begins so
        ("", True, "not-enough-evidence"),  # cut within its thoughts
        ("", False, "fine-tune"),
    ],
)
def test_cut_answers_that_could_have_become_right_keep_the_verdict_open(config, text, cut, verdict):
    few_shot = answers((60, None, False), (140, text, cut))
    found = decide(config, few_shot, GOOD)
    assert (found.verdict, found.truncated) == (verdict, verdict != "fine-tune")
    if found.truncated:
        assert "might be prompt instead of fine-tune" in found.because
        assert "if those of the prompted arms count as right" in found.because


def test_a_few_cut_answers_that_cannot_change_the_verdict_are_ignored(config):
    few_shot = answers((60, None, False), (130, "I think", True), (10, "", True))
    assert decide(config, few_shot, GOOD).verdict == "fine-tune"


def test_a_limit_that_is_part_of_the_task_makes_cut_answers_wrong(config):
    few_shot = answers((60, None, False), (140, "", True))
    assert decide(config, few_shot, GOOD, "evaluate.cut_answers=wrong").verdict == "fine-tune"


def test_tuning_is_not_ruled_out_by_its_own_cut_answers(config):
    cut = answers((60, None, False), (140, "", True))
    found = decide(config, GOOD, cut)
    assert (found.verdict, found.recommended_arm) == ("not-enough-evidence", "few_shot")
    assert "instead of prompt" in found.because and "those of the tuned arms" in found.because


def test_nothing_is_called_useless_while_its_answers_are_cut(config):
    cut = answers((20, None, False), (180, "", True))
    found = decide(config, cut, cut)
    assert found.verdict == "not-enough-evidence" and "instead of neither" in found.because


def test_each_metric_counts_a_right_answer_as_it_counts_its_target():
    few_shot = answers((100, None, False), (50, "NUM or so", False), (50, "", True))
    for metric, before, after in (("accuracy", 0.5, 0.75), ("rouge", 0.53, 0.78)):
        metrics = Metrics([metric], {})
        scores = metrics.score_records(few_shot, RECORDS)[metric]
        right = count_as_right(metrics, metric, RECORDS, few_shot, scores)
        assert (round(scores.value, 2), round(right.value, 2)) == (before, after)
        assert (right.rows[:150] == scores.rows[:150]).all()
    metrics = Metrics(["macro_f1"], {})
    scores = metrics.score_records(few_shot, RECORDS)["macro_f1"]
    assert count_as_right(metrics, "macro_f1", RECORDS, few_shot, scores).value > scores.value
    assert count_as_right(metrics, "macro_f1", RECORDS, GOOD, scores) is scores
    assert count_cut(metrics, "macro_f1", RECORDS, few_shot) == Truncation(50, 50)


class Unaimed(Metrics):
    """A metric whose best answers are not the targets."""

    def best(self, name):
        return None


def test_a_metric_that_does_not_aim_at_the_target_gets_its_highest_value():
    few_shot = answers((100, None, False), (100, "", True))
    scores = Scores(np.tile([2.0, 1.0], (ROWS, 1)), bounds=(0.0, 5.0))
    right = count_as_right(Unaimed(["rouge"], {}), "rouge", RECORDS, few_shot, scores)
    assert right.value == 3.5


def test_each_training_seed_alone_is_held_to_the_same_rule(config):
    low = binary(*[1] * 60, *[0] * 140)
    good = binary(*[1] * 180, *[0] * 20)
    runs = {
        "constant": {"accuracy": [binary(*[1] * 50, *[0] * 150)]},
        "few_shot": {"accuracy": [low]},
        "tuned": {"accuracy": [good, good]},
    }
    checked = config("evaluate.metrics=[accuracy]", "evaluate.primary_metric=accuracy")
    alone = [
        [vote.verdict for vote in judge(checked, CONTEST, runs, None, uncut=uncut).seeds]
        for uncut in ({}, {"few_shot": [binary(*[1] * ROWS)]})
    ]
    assert alone == [["fine-tune"] * 2, ["not-enough-evidence"] * 2]


def test_the_report_says_it_at_its_top():
    report = make_report() | {
        "verdict": "not-enough-evidence",
        "recommended_arm": "few_shot",
        "alternative": None,
        "truncation": {
            "decides": True,
            "arms": {
                "zero_shot": {"cut": 301, "may_be_right": 300},
                "tuned": {"cut": 1, "may_be_right": 0},
            },
        },
    }
    assert "answers that prompt.max_new_tokens cut could change the verdict" in get_answer(report)
    assert "stay with few_shot" in get_answer(report)
    assert get_summary(report)[0] == (
        "prompt.max_new_tokens cut these of the 301 answers of an arm: 301 of zero_shot (300 of them "
        "could still have become right), 1 of tuned (0 of them could still have become right)."
    )
    report["truncation"]["arms"] = {
        "zero_shot": {"cut": 301, "may_be_right": 0},
        "tuned": {"cut": 1, "may_be_right": 0},
    }
    assert get_summary(report)[0] == (
        "prompt.max_new_tokens cut these of the 301 answers of an arm, none of which could still have "
        "become right: 301 of zero_shot, 1 of tuned."
    )
    assert "cut these" not in get_summary(make_report() | {"alternative": None})[0]
