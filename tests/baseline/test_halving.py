import pytest

from stages.baseline.halving import FIRST_ROWS, Cost, make_plan

EQUAL = [Cost(100, 10)] * 16


def test_candidates_are_halved_while_their_rows_double():
    plan = make_plan(EQUAL, 2, 120, budget=1e9)
    assert plan.rungs == [(16, 15), (8, 30), (4, 60), (2, 120)] and plan.candidates == list(
        range(16)
    )
    assert make_plan(EQUAL[:2], 2, 48, budget=1e9).rungs == [(2, 48)]
    assert make_plan(EQUAL[:6], 2, 48, budget=1e9).rungs == [(6, 12), (3, 24), (2, 48)]
    assert make_plan(EQUAL, 2, 20, budget=1e9).rungs == [
        (16, 20)
    ]  # too few rows for a first round of a half


@pytest.mark.parametrize("budget", [400, 1_000, 4_000, 8_000, 40_000])
def test_no_plan_takes_more_than_its_budget(budget):
    plan = make_plan(EQUAL, 4, 120, budget)
    assert plan.tokens <= budget
    assert all(rows >= FIRST_ROWS for _, rows in plan.rungs)


def test_later_candidates_go_first_then_the_costliest_then_rows():
    costs = [Cost(0, 10), Cost(0, 100), Cost(0, 10), Cost(0, 10), Cost(0, 10)]
    assert make_plan(costs, 3, 100, budget=20_000).candidates == [0, 1, 2, 3, 4]
    assert make_plan(costs, 3, 100, budget=11_600).candidates == [0, 1, 2]
    assert make_plan(costs, 3, 100, budget=4_000).candidates == [0, 2]
    few = make_plan(costs, 3, 100, budget=1_000)
    assert few.candidates == [0, 2] and few.rungs == [(2, 50)]
    assert make_plan(costs, 3, 100, budget=1).candidates == [0]
