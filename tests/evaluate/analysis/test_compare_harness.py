import numpy as np
import pytest

from stages.core.errors import UserError
from stages.evaluate.analysis.harness import compare_harness

CONFIDENCE = 0.95


def asked(scores, items="same", **others):
    return {
        "suite": {"version": 1, "items_sha256": items, "metrics": {"acc": metric(scores), **others}}
    }


def metric(scores):
    return {"value": float(np.mean(scores)), "stderr": None, "scores": scores}


def test_no_task_is_no_result():
    assert compare_harness({}, {}, CONFIDENCE) == []


def test_items_are_paired():
    """Both models lose and win nothing but the same two items: the difference is surer than either value."""
    base = [1.0, 0.0] * 50
    tuned = [0.0, 0.0, *base[2:]]
    (found,) = compare_harness(asked(base), asked(tuned), CONFIDENCE)
    assert (found.task, found.metric, found.items) == ("suite", "acc", 100)
    assert found.base.value == 0.5 and found.tuned.value == pytest.approx(0.49)
    assert found.difference.value == pytest.approx(-0.01)
    assert found.difference.ci_low >= -0.05 and found.difference.ci_high <= 0.03
    assert found.base.ci_high - found.base.ci_low > 0.15


def test_the_same_answers_differ_by_nothing():
    (found,) = compare_harness(asked([1.0, 0.0, 1.0]), asked([1.0, 0.0, 1.0]), CONFIDENCE)
    assert found.difference.value == 0 and found.difference.ci_low == -found.difference.ci_high


def test_scores_above_one_have_intervals_of_their_own_size():
    base = [30.0, 40.0, 35.0, 45.0]
    (found,) = compare_harness(asked(base), asked([x + 1 for x in base]), CONFIDENCE)
    assert found.base.ci_low < 37.5 < found.base.ci_high < 60
    assert found.difference.value == pytest.approx(1)


def test_a_metric_that_is_no_mean_over_items_is_left_out():
    bleu = {"value": 12.0, "stderr": None, "scores": None}
    found = compare_harness(asked([1.0, 0.0], bleu=bleu), asked([1.0, 0.0], bleu=bleu), CONFIDENCE)
    assert [result.metric for result in found] == ["acc"]


@pytest.mark.parametrize("tuned", [asked([1.0, 0.0], items="others"), {}])
def test_other_items_cannot_be_compared(tuned):
    with pytest.raises(UserError, match="different items"):
        compare_harness(asked([1.0, 0.0]), tuned, CONFIDENCE)
