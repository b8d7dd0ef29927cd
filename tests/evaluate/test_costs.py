import pytest

from stages.core.evaluate_config import Prices
from stages.core.predictions import Prediction
from stages.evaluate.costs import get_costs

PRICES = {"currency": "USD", "machine_hour": 3.6, "input_million": 0.0, "output_million": 0.0}  # 0.1 cent a second
HOSTING = {"hosting_month": 0.0, "requests_month": 1000}
REMOTE = {"remote_input_million": 0.5, "remote_output_million": 2.0}
TRAINING = {"seconds": 300}


def costs(seconds, alternative="few_shot", training={}, **prices):  # noqa: B006
    answers = {
        arm: [Prediction(str(n), arm, "", 1000, 100, s + n / 1e6) for n in range(50)] for arm, s in seconds.items()
    }
    prices = Prices(**PRICES | HOSTING | REMOTE | prices)
    return get_costs(prices, TRAINING | training, answers, "tuned", alternative, 0.95)


def test_break_even():
    found = costs({"few_shot": 2.0, "tuned": 0.5})
    assert found.training == pytest.approx(0.3) and found.per_request["few_shot"] == pytest.approx(0.002, rel=1e-3)
    assert found.break_even_low == found.break_even_requests == found.break_even_high == 200
    never = costs({"few_shot": 0.5, "tuned": 0.5})
    assert (
        never.break_even_requests is None
        and "never: a request of the tuned model costs no less" in never.break_even_reason
    )


def test_the_remote_arm_costs_its_tokens_and_no_hours():
    found = costs({"remote": 9.0, "tuned": 0.5}, "remote")
    assert found.per_request["remote"] == pytest.approx((1000 * 0.5 + 100 * 2.0) / 1e6)
    assert found.break_even_requests == round(0.3 / (0.0007 - found.per_request["tuned"]))


def test_electricity_is_told_for_the_arms_that_measured_it():
    assert costs({"few_shot": 2.0, "tuned": 0.5}).energy is None
    found = costs({"few_shot": 2.0, "tuned": 0.5}, training={"energy": {"country": "DEU", "kwh": 0.1, "co2_kg": 0.03}})
    assert found.energy == {"country": "DEU", "training_kwh": 0.1, "training_co2_kg": 0.03, "request_kwh": {}}


def test_tokens_have_a_price_too():
    found = costs({"few_shot": 0.0, "tuned": 0.0}, machine_hour=0.0, input_million=3.0, output_million=10.0)
    assert found.per_request["tuned"] == pytest.approx(0.003 + 0.001) and found.evaluating == pytest.approx(0.4)


def test_hosting_may_eat_the_saving():
    half = costs({"few_shot": 2.0, "tuned": 0.5}, hosting_month=0.75)  # half of the 1.5 that a month saves
    assert half.break_even_requests == 400
    eaten = costs({"few_shot": 2.0, "tuned": 0.5}, hosting_month=2.0)
    assert eaten.break_even_requests is None and "hosting at 2.00 USD a month eats" in eaten.break_even_reason
