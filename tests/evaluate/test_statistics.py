import numpy as np
import pytest
from scipy.stats import binomtest

from stages.core.metrics import Scores
from stages.evaluate.slices import compare_slices
from stages.evaluate.statistics import Estimate, Resampling, difference, estimate, holm, p_value, rows_needed
from stages.evaluate.verdict import Comparison, decide
from tests.conftest import chat


def ratios(numerators, denominators):
    return Scores(np.stack([np.asarray(numerators, float), np.asarray(denominators, float)], axis=1))


def binary(*rows):
    return ratios(rows, np.ones(len(rows)))


def draw(rate, n, seed):
    return binary(*(np.random.default_rng(seed).random(n) < rate))


def how(resamples=1000, seed=1, interval="percentile"):
    return Resampling(0.95, resamples, seed, interval)


@pytest.mark.parametrize("interval", ["percentile", "BCa"])
def test_the_interval_of_a_share_is_near_the_normal_one(interval):
    scores = draw(0.7, 400, 1)
    found, p = estimate(scores, how(4000, interval=interval)), scores.value
    half = 1.96 * np.sqrt(p * (1 - p) / 400)
    assert found.ci_low == pytest.approx(p - half, abs=0.008)
    assert found.ci_high == pytest.approx(p + half, abs=0.008)


def test_bca_leans_with_the_skew_as_scipy_says():
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).exponential(size=60)
    found = estimate(ratios(values, np.ones(60)), how(2000, interval="BCa"))
    theirs = bootstrap((values,), np.mean, method="BCa", n_resamples=2000, batch=100, rng=1).confidence_interval
    assert (found.ci_low, found.ci_high) == pytest.approx((theirs.low, theirs.high))


def test_one_seed_one_interval():
    scores = ratios(np.random.default_rng(2).random(50), np.ones(50))
    assert estimate(scores, how(500, 7)) == estimate(scores, how(500, 7)) != estimate(scores, how(500, 8))


def test_a_difference_is_paired():
    ours = draw(0.5, 300, 3)
    better = binary(*np.maximum(ours.values, draw(0.1, 300, 4).values))
    gap, unpaired = difference(better, ours, how()), estimate(ours, how())
    assert gap.ci_low > 0
    assert gap.ci_high - gap.ci_low < unpaired.ci_high - unpaired.ci_low
    assert difference(ours, ours, how()) == Estimate(0, 0, 0)


@pytest.mark.parametrize("interval", ["percentile", "BCa"])
def test_rows_that_are_all_alike_have_an_interval_of_no_width(interval):
    assert estimate(binary(0, 0, 0, 0), how(200, interval=interval)) == Estimate(0, 0, 0)


def test_mcnemar_by_hand():
    # 9 rows only ours right, 2 only theirs, so p = 2 * P(X <= 2 | 11, 1/2)
    ours = binary(*[1] * 9, *[0] * 2, *[1] * 5, *[0] * 4)
    theirs = binary(*[0] * 9, *[1] * 2, *[1] * 5, *[0] * 4)
    assert p_value(ours, theirs, 1000, 1) == pytest.approx(binomtest(2, 11).pvalue) == pytest.approx(0.06543, abs=1e-4)


def test_the_permutation_test_agrees_with_mcnemar_on_binary_rows():
    ours, theirs = draw(0.62, 200, 5), draw(0.5, 200, 6)
    weighted = [Scores(2 * s.rows) for s in (ours, theirs)]  # no longer counts as binary
    assert p_value(*weighted, 5000, 1) == pytest.approx(p_value(ours, theirs, 5000, 1), abs=0.03)


def test_the_permutation_test_finds_nothing_where_there_is_nothing():
    scores = ratios([0, 2, 4, 0], [2, 2, 5, 3])
    assert p_value(scores, scores, 500, 1) == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06]) and holm([]) == []


def test_the_rows_that_would_tell():
    # The bound is 0.06 away; to tell 0.05 from 0.02 it must be 0.03 / (1 + 0.8416 / 1.6449) away: rows times 9.14.
    assert rows_needed(Estimate(0.05, -0.01, 0.11), 0.02, 100, 0.95) == pytest.approx(914, abs=1)
    assert rows_needed(Estimate(0.02, -0.04, 0.08), 0.02, 100, 0.95) is None


def test_a_part_on_which_the_tuned_arm_loses_is_marked():
    records = [chat(f"question {n}", "yes" if n < 40 else "no") for n in range(200)]
    theirs = binary(*[1] * 40, *[0] * 160)
    ours = binary(*[0] * 40, *[1] * 160)
    parts = {
        (part.by, part.value): part for part in compare_slices(["label", "length"], records, ours, theirs, how(300))
    }
    assert parts["label", "yes"].loses and not parts["label", "no"].loses
    assert (parts["label", "yes"].rows, parts["label", "yes"].ours, parts["label", "yes"].theirs) == (40, 0, 1)
    assert sum(part.rows for (by, _), part in parts.items() if by == "length") == 200


def comparison(low, high, against="few_shot"):
    return Comparison("tuned", against, "exact_match", (low + high) / 2, *[low, high] * 2, 0.01, 0.03, 900)


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


def test_a_verdict_without_evidence_says_how_many_rows_would_tell():
    found = decide([comparison(-0.01, 0.11)], "few_shot", margin=0.02, confidence=0.95)
    assert "some 900 test rows would tell" in found.reasons[0]
