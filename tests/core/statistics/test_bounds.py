import numpy as np
import pytest
from scipy.special import ndtri, stdtrit

from stages.core.statistics.bounds import compare, difference, estimate_metric
from stages.core.statistics.scores import Scores, ratio


def ratios(numerators, denominators, **settings):
    return Scores(
        np.stack([np.asarray(numerators, float), np.asarray(denominators, float)], axis=1),
        **settings,
    )


def binary(*rows):
    return ratios(rows, np.ones(len(rows)))


def draw(rate, n, seed):
    return binary(*(np.random.default_rng(seed).random(n) < rate))


def test_right_or_wrong_rows_get_the_interval_of_bonett_and_price():
    # 12 rows only ours has right, 5 only theirs, of 60. One win and one loss are added to each (2012, equation 3).
    ours = binary(*[1] * 12, *[0] * 5, *[1] * 20, *[0] * 23)
    theirs = binary(*[0] * 12, *[1] * 5, *[1] * 20, *[0] * 23)
    found = compare(ours, theirs)
    won = 13 / 62
    lost = 6 / 62
    assert found.centre == pytest.approx(won - lost)
    assert found.standard_error == pytest.approx(np.sqrt((won + lost - (won - lost) ** 2) / 62))
    assert found.low(0.05) == pytest.approx(found.centre - stdtrit(59, 0.95) * found.standard_error)
    assert found.value == pytest.approx(7 / 60)


def test_rows_that_are_all_alike_still_leave_room():
    nothing = binary(*[0] * 30)
    found = difference(nothing, nothing, 0.95)
    assert (found.value, found.ci_low + found.ci_high) == (0, pytest.approx(0))
    assert found.bound_high == pytest.approx(
        0.075, abs=0.003
    )  # far from the margin of 0.02: nothing is decided
    assert (
        estimate_metric(nothing, 0.95).ci_high > 0.08 and estimate_metric(nothing, 0.95).ci_low == 0
    )


def test_the_interval_of_a_share_is_near_the_normal_one_and_stays_in_its_range():
    scores = draw(0.7, 400, 1)
    found = estimate_metric(scores, 0.95)
    half = 1.96 * np.sqrt(scores.value * (1 - scores.value) / 400)
    assert (found.ci_low, found.ci_high) == pytest.approx(
        (scores.value - half, scores.value + half), abs=0.004
    )
    assert estimate_metric(binary(*[1] * 50), 0.95).ci_high == 1


def test_a_difference_is_paired():
    ours = draw(0.5, 300, 3)
    better = binary(*np.maximum(ours.values, draw(0.1, 300, 4).values))
    gap = difference(better, ours, 0.95)
    alone = estimate_metric(ours, 0.95)
    assert gap.ci_low > 0 and gap.ci_high - gap.ci_low < alone.ci_high - alone.ci_low
    assert gap.ci_low < gap.bound_low < gap.value < gap.bound_high < gap.ci_high


def test_groups_widen_the_interval_by_what_their_rows_share():
    groups = np.repeat(np.arange(10), 30)
    of_group = np.random.default_rng(5).random(10) < 0.6
    scores = binary(
        *of_group[groups]
    )  # all rows of a group are alike: ten observations, not three hundred
    zero = binary(*[0] * 300)
    assert compare(scores, zero, groups).standard_error > 4 * compare(scores, zero).standard_error
    assert compare(scores, zero, groups).degrees == 9
    shuffled = np.random.default_rng(6).permutation(
        groups
    )  # groups that share nothing change little
    assert compare(scores, zero, shuffled).standard_error == pytest.approx(
        compare(scores, zero).standard_error, rel=0.6
    )


@pytest.mark.parametrize("count", [3, 10, 30])
def test_rows_of_a_few_groups_that_are_all_alike_bound_no_more_than_the_groups(count):
    zero = binary(*[0] * 30 * count)
    of_groups = compare(zero, zero, np.repeat(np.arange(count), 30)).high(0.05)
    of_rows = compare(binary(*[0] * count), binary(*[0] * count)).high(0.05)
    assert of_groups == pytest.approx(of_rows)
    assert of_groups > 5 * compare(zero, zero).high(0.05)


def test_one_group_bounds_nothing():
    found = compare(draw(0.9, 50, 1), draw(0.1, 50, 2), np.zeros(50, int))
    assert found.low(0.05) == -np.inf and found.high(0.05) == np.inf


def test_the_jackknife_of_a_ratio_is_near_its_spread_over_test_sets():
    random = np.random.default_rng(7)

    def sample():
        wanted = random.integers(0, 4, 200)
        return ratios(2 * random.binomial(wanted, 0.6), 2 * wanted)

    values = [sample().value for _ in range(400)]
    claimed = np.mean(
        [compare(sample(), ratios(np.zeros(200), np.ones(200))).standard_error for _ in range(50)]
    )
    assert claimed == pytest.approx(np.std(values), rel=0.2)


def test_rows_that_a_metric_does_not_know_are_not_counted():
    few = ratios([2.0] * 8 + [0.0] * 192, [2.0] * 8 + [0.0] * 192)
    none = ratios([0.0] * 200, [2.0] * 8 + [0.0] * 192)
    assert (
        compare(few, none).low(0.05)
        < compare(binary(*[1] * 200), binary(*[0] * 200)).low(0.05) - 0.1
    )


def test_the_spread_between_seeds_enters():
    zero = binary(*[0] * 300)
    alike = [draw(0.6, 300, 1)] * 3
    apart = [draw(rate, 300, 1) for rate in (0.5, 0.6, 0.7)]
    same = compare(alike, zero)
    wide = compare(apart, zero)
    assert same.standard_error == pytest.approx(compare(alike[0], zero).standard_error)
    assert wide.standard_error > 1.5 * same.standard_error and wide.degrees < 10
    assert wide.value == pytest.approx(np.mean([scores.value for scores in apart]))


def test_a_metric_without_ends_has_no_imagined_rows():
    nats = ratios(
        [100.0, 120.0, 80.0],
        [50.0, 50.0, 50.0],
        aggregate=lambda sums: np.exp(ratio(sums)),
        bounds=None,
    )
    found = estimate_metric(nats, 0.95)
    assert found.value == pytest.approx(np.exp(2)) and found.ci_high > 9
    assert estimate_metric(nats.of(np.array([0, 0, 0])), 0.95).ci_low == pytest.approx(np.exp(2))


def test_imagined_rows_are_as_far_apart_as_the_metric_can_be():
    points = [draw(rate, 60, seed) for rate, seed in ((0.6, 1), (0.5, 2))]
    percent = [Scores(s.rows * [100, 1], bounds=(0.0, 100.0)) for s in points]
    assert compare(*percent).standard_error == pytest.approx(100 * compare(*points).standard_error)
    assert estimate_metric(percent[0], 0.95).ci_high == pytest.approx(
        100 * estimate_metric(points[0], 0.95).ci_high
    )


def test_level_of_a_small_test_set_near_one():
    """Exactly 5 % are wanted at most: a true gain of the margin, 0.96 to 0.98, in 30 rows."""
    random = np.random.default_rng(8)
    wrong = 0
    for _ in range(400):
        luck = random.random(30)
        wrong += compare(binary(*(luck < 0.98)), binary(*(luck < 0.96))).low(0.05) > 0.02
    assert wrong <= 28 and ndtri(0.95) > 1.6
