import numpy as np
import pytest
from scipy.stats import binomtest

from stages.core.config import Prices
from stages.evaluate.costs import get_costs
from stages.evaluate.scores import Scores
from stages.evaluate.statistics import difference, estimate, p_value
from stages.evaluate.verdict import Comparison, decide


def binary(*rows):
    return Scores(np.array(rows, float), np.ones(len(rows)))


def draw(rate, n, seed):
    return binary(*(np.random.default_rng(seed).random(n) < rate))


def test_the_interval_of_a_share_is_near_the_normal_one():
    scores = draw(0.7, 400, 1)
    found, p = estimate(scores, 0.95, 4000, 1), scores.value
    half = 1.96 * np.sqrt(p * (1 - p) / 400)
    assert found.ci_low == pytest.approx(p - half, abs=0.008)
    assert found.ci_high == pytest.approx(p + half, abs=0.008)


def test_one_seed_one_interval():
    scores = Scores(np.random.default_rng(2).random(50), np.ones(50))
    assert estimate(scores, 0.95, 500, 7) == estimate(scores, 0.95, 500, 7)
    assert estimate(scores, 0.95, 500, 7) != estimate(scores, 0.95, 500, 8)


def test_a_difference_is_paired():
    ours = draw(0.5, 300, 3)
    better = binary(*np.maximum(ours.numerators, draw(0.1, 300, 4).numerators))
    gap = difference(better, ours, 0.95, 1000, 1)
    unpaired = estimate(ours, 0.95, 1000, 1)
    assert gap.ci_low > 0
    assert gap.ci_high - gap.ci_low < unpaired.ci_high - unpaired.ci_low
    same = difference(ours, ours, 0.95, 1000, 1)
    assert (same.value, same.ci_low, same.ci_high) == (0, 0, 0)


def test_rows_that_are_all_alike_have_an_interval_of_no_width():
    found = estimate(binary(0, 0, 0, 0), 0.95, 200, 1)
    assert (found.value, found.ci_low, found.ci_high) == (0, 0, 0)


def test_mcnemar_by_hand():
    # 9 rows only ours right, 2 only theirs, so p = 2 * P(X <= 2 | 11, 1/2)
    ours = binary(*[1] * 9, *[0] * 2, *[1] * 5, *[0] * 4)
    theirs = binary(*[0] * 9, *[1] * 2, *[1] * 5, *[0] * 4)
    assert p_value(ours, theirs, 1000, 1) == pytest.approx(binomtest(2, 11).pvalue) == pytest.approx(0.06543, abs=1e-4)


def test_the_permutation_test_agrees_with_mcnemar_on_binary_rows():
    ours, theirs = draw(0.62, 200, 5), draw(0.5, 200, 6)
    weighted = [Scores(2 * s.numerators, 2 * s.denominators) for s in (ours, theirs)]  # no longer counts as binary
    assert p_value(*weighted, 5000, 1) == pytest.approx(p_value(ours, theirs, 5000, 1), abs=0.03)


def test_the_permutation_test_finds_nothing_where_there_is_nothing():
    scores = Scores(np.array([0.0, 2, 4, 0]), np.array([2.0, 2, 5, 3]))
    assert p_value(scores, scores, 500, 1) == 1


def comparison(low, high, against="few_shot"):
    return Comparison("tuned", against, "exact_match", (low + high) / 2, low, high, 0.01)


@pytest.mark.parametrize(
    ("intervals", "verdict", "arm"),
    [
        ([(0.05, 0.2), (0.03, 0.1)], "fine-tune", "tuned"),
        ([(0.05, 0.2), (0.01, 0.1)], "not-enough-evidence", "few_shot"),
        ([(0.05, 0.2), (-0.1, 0.01)], "prompt", "few_shot"),
        ([(0.05, 0.2), (0.0, 0.0)], "prompt", "few_shot"),
        ([(0.02, 0.2), (0.05, 0.2)], "not-enough-evidence", "few_shot"),
        ([(-0.3, -0.1), (-0.2, 0.1)], "prompt", "few_shot"),
    ],
)
def test_the_rule_of_the_verdict(intervals, verdict, arm):
    found = decide([comparison(*interval) for interval in intervals], "few_shot", margin=0.02, confidence=0.95)
    assert (found.verdict, found.recommended_arm) == (verdict, arm)
    assert len(found.reasons) == 3 and "95%" in found.reasons[1]


def test_two_equal_arms_seldom_lead_to_fine_tuning():
    verdicts = []
    for seed in range(100):
        ours, theirs = draw(0.5, 300, seed), draw(0.5, 300, 10_000 + seed)
        gap = difference(ours, theirs, 0.95, 200, seed)
        verdicts.append(decide([comparison(gap.ci_low, gap.ci_high)], "few_shot", 0.02, 0.95).verdict)
    assert verdicts.count("fine-tune") <= 5


def test_break_even():
    prices = Prices(currency="USD", machine_hour=3.6)  # a tenth of a cent a second
    seconds = {"few_shot": 2.0, "tuned": 0.5}
    costs = get_costs(prices, 300, seconds, "tuned", "few_shot")
    assert costs.training == pytest.approx(0.3) and costs.per_request["few_shot"] == pytest.approx(0.002)
    assert costs.break_even_requests == 200
    never = get_costs(prices, 300, {"few_shot": 0.5, "tuned": 0.5}, "tuned", "few_shot")
    assert never.break_even_requests is None and "never" in never.break_even_reason
