import pytest

from stages.core.statistics.bounds import Spread
from stages.core.statistics.sample_size import get_rows_needed, get_smallest_gain


def test_a_gain_needs_as_many_rows_on_which_the_arms_differ():
    alike = get_smallest_gain(300, 0.0, 0.02, 0.95)
    assert 0.02 < alike < get_smallest_gain(300, 0.1, 0.02, 0.95)


def test_rows_needed_are_a_range_and_open_where_the_difference_may_be_the_margin():
    clear = get_rows_needed(Spread(0.08, 0.08, 0.03, 300), 0.02, 100, 0.05)
    assert clear.low < 155 < clear.high  # 100 * ((1.645 + 0.842) * 0.03 / 0.06) ** 2 = 155
    assert get_rows_needed(Spread(0.03, 0.03, 0.03, 300), 0.02, 100, 0.05).high is None
    assert (
        get_rows_needed(Spread(0.13, 0.12, 0.07, 70), 0.02, 71, 0.05).low == 72
    )  # 71 have just not told


@pytest.mark.parametrize(("rows", "differ"), [(300, 0.3), (300, 0.1), (50, 0.3)])
def test_the_smallest_gain_is_shown_in_four_of_five_test_sets(rows, differ):
    import numpy as np

    from tests.core.statistics.test_bounds import binary, compare

    gain = get_smallest_gain(rows, differ, 0.02, 0.95)
    random = np.random.default_rng(9)
    shown = 0
    for _ in range(300):
        luck = random.random(rows)
        ours = binary(*(luck < (differ + gain) / 2))
        theirs = binary(*((luck >= (differ + gain) / 2) & (luck < differ)))
        shown += compare(ours, theirs).low(0.05) > 0.02
    assert 0.68 < shown / 300 < 0.9
