"""The bounds in the report are those that the verdict requires."""

import pytest

from stages.evaluate.analysis.judging import Contest, judge
from tests.core.statistics.test_bounds import binary

ROWS = 200
MARGIN = 0.02


def get_runs(*tuned):
    """The arms with their numbers of right answers; those of a better arm include those of a worse."""
    right = {"constant": 20, "few_shot": 100, **{f"tuned_{n}": n for n in tuned}}
    return {
        arm: {"accuracy": [binary(*(i < count for i in range(ROWS)))]}
        for arm, count in right.items()
    }


@pytest.mark.parametrize("looks", [1, 3, 10, 100])
@pytest.mark.parametrize("tuned", [(110,), (112,), (115,), (120,), (112, 115), (118, 120, 122)])
def test_a_tuned_arm_wins_exactly_if_one_has_all_its_reported_bounds_above_the_margin(
    config, looks, tuned
):
    runs = get_runs(*tuned)
    arms = [arm for arm in runs if arm.startswith("tuned")]
    checked = config(
        "evaluate.metrics=[accuracy]",
        "evaluate.primary_metric=accuracy",
        f"evaluate.margin={MARGIN}",
    )
    found = judge(checked, Contest.of(["constant", "few_shot"], arms), runs, None, looks=looks)
    assert found.bound_confidence == pytest.approx(1 - 0.05 / (looks * len(arms)))
    lows = {
        arm: min(c.bound_low for c in found.comparisons if c.arm == arm) > MARGIN for arm in arms
    }
    assert (found.verdict.verdict == "fine-tune") is any(lows.values())
