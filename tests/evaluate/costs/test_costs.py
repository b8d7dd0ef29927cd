"""Costs of made-up arms: prices, bounds, break-even, worth."""

import json

import numpy as np
import pytest
from scipy.stats import t

from stages.core.config.evaluate import Prices
from stages.core.data.predictions import Prediction
from stages.core.inference.engine import get_engine
from stages.core.models.generation import common_prefix
from stages.core.models.loading import get_tokenizer
from stages.evaluate.costs.costs import get_costs
from stages.evaluate.costs.payback import Bounds, get_bounds
from stages.evaluate.costs.scenarios import Measurements
from stages.evaluate.costs.timings import TIMINGS, Rates, read_timings, time_engine, write_timings

FREE = {
    "per_million_input_tokens": 0.0,
    "per_million_cached_input_tokens": 0.0,
    "per_million_output_tokens": 0.0,
}
BASE_LIST = {
    "per_million_input_tokens": 1.0, "per_million_cached_input_tokens": 0.5, "per_million_output_tokens": 4.0
}  # fmt: skip
TUNED_LIST = {name: 2 * price for name, price in BASE_LIST.items()}
MACHINE = {
    "per_hour": 3.6,
    "batch_size": 32,
    "concurrent_requests": 8,
    "utilization": 0.5,
    "repeats": 3,
}
TOKENS = {
    "base": BASE_LIST,
    "tuned": TUNED_LIST,
    "per_million_training_tokens": 3.0,
    "min_cached_tokens": 1000,
}
PRICES = {
    "currency": "USD",
    "scenario": "batches",
    "requests_per_month": 1000,
    "horizon_months": 12,
    "hosting_per_month": 0.0,
    "value_of_right_answer": None,
    "machine": MACHINE,
    "training": {"per_hour": 3.6, "relative_error": 0.0, "per_labelled_row": 0.0},
    "tokens": TOKENS,
    "remote": FREE,
}
RATES = Rates(prompt_token=1e-3, cached_token=1e-4, output_token=1e-2, output_token_context=0.0)
SERVER = Rates(prompt_token=2e-3, cached_token=0.0, output_token=2e-2, output_token_context=0.0)
STEADY = {"base": [{"batches": RATES, "server": SERVER}] * 3}
TRAINING = {"seconds": 300.0, "tokens": 100_000}


def arm(name, prompt, completion, shared=0, rows=50, seconds=9.0, spread=1):
    """Rows whose prompts differ by up to `spread` tokens."""
    return [
        Prediction(
            str(n),
            name,
            "",
            prompt + n % (spread + 1),
            completion,
            seconds,
            shared_prompt_tokens=shared,
        )
        for n in range(rows)
    ]


ARMS = {"few_shot": arm("few_shot", 2000, 100, shared=1500), "tuned": arm("tuned", 500, 100)}


def costs(
    arms=ARMS, *, alternative="few_shot", timings=STEADY, training=None, right=None, **prices
):
    trained = training or {"tuned": TRAINING}
    measured = Measurements(arms, trained, timings, training_rows=200, right=right)
    return get_costs(Prices(**PRICES | prices), measured, "tuned", alternative, 0.95)


@pytest.mark.parametrize(
    ("scenario", "few_shot", "tuned"),
    [
        ("batches", 500e-3 + 1500e-4 + 1.0, 500e-3 + 1.0),  # the prefix once, and then reused
        (
            "server",
            (2000 * 2e-3 + 2.0) / 0.5,
            (500 * 2e-3 + 2.0) / 0.5,
        ),  # half of the hours stand idle
        ("server_prefix_cache", (500 * 2e-3 + 2.0) / 0.5, (500 * 2e-3 + 2.0) / 0.5),
        ("tokens", (500 * 1.0 + 1500 * 0.5 + 100 * 4.0) / 1e3, (500 * 2.0 + 100 * 8.0) / 1e3),
    ],
)
def test_a_request_in_each_scenario(scenario, few_shot, tuned):
    found = costs().scenarios[scenario].per_request
    assert found == {
        "few_shot": pytest.approx(few_shot / 1e3, rel=2e-3),
        "tuned": pytest.approx(tuned / 1e3, rel=2e-3),
    }
    assert costs(scenario=scenario).per_request == found


def test_a_short_prefix_is_no_cached_input():
    long = (
        costs(tokens=TOKENS | {"min_cached_tokens": 1600})
        .scenarios["tokens"]
        .per_request["few_shot"]
    )
    assert long == pytest.approx((2000 * 1.0 + 100 * 4.0) / 1e6, rel=1e-3)


def test_training_is_paid_by_hour_or_by_token_and_never_free_because_serving_is():
    served_free = costs(machine=MACHINE | {"per_hour": 0.0})
    assert served_free.training == pytest.approx(0.3) and served_free.break_even_requests is None
    assert costs(scenario="tokens").training == pytest.approx(0.3)  # 100,000 tokens at 3 a million
    by_hour = TOKENS | {"per_million_training_tokens": None}
    assert costs(
        scenario="tokens", tokens=by_hour, training={"tuned": TRAINING | {"seconds": 600.0}}
    ).training == (pytest.approx(0.6))


def test_break_even_by_hand():
    found = costs()  # 0.65 ... - 0.5 s: a request saves 0.15 s, 0.00015 USD
    assert found.break_even_requests == found.break_even_low == found.break_even_high == 2000
    assert (
        found.break_even_reason
        == "Break-even: after 2,000 requests (2,000 to 2,000) compared with few_shot"
    )
    assert (
        found.cheaper == {"few_shot": True}
        and "is cheaper than few_shot" in found.cheaper_reasons["few_shot"]
    )
    slow = costs(horizon_months=1)
    assert (
        slow.cheaper == {"few_shot": False}
        and "not shown to pay for itself" in slow.cheaper_reasons["few_shot"]
    )


def test_the_answers_of_a_teacher_are_paid_before_training():
    asked = {"prompt_tokens": 2_000_000, "completion_tokens": 500_000}
    remote = FREE | {"per_million_input_tokens": 1.5, "per_million_output_tokens": 8.0}
    distilled = {"tuned": TRAINING | {"teacher": asked}}
    for scenario in ("batches", "tokens"):
        plain = costs(scenario=scenario, remote=remote).training
        assert costs(scenario=scenario, remote=remote, training=distilled).training == (
            pytest.approx(plain + 7.0)
        )


def test_the_break_even_holds_what_training_may_take_at_another_hour():
    measured = Measurements(ARMS, {"tuned": TRAINING}, STEADY, training_rows=200, right=None)
    prices = Prices(**PRICES | {"training": PRICES["training"] | {"relative_error": 0.1}})
    found = get_costs(prices, measured, "tuned", "few_shot", 0.95)
    ends = (found.break_even_low, found.break_even_requests, found.break_even_high)
    assert ends == pytest.approx((1800, 2000, 2200), abs=1)
    assert "training and labelling cost at most 0.33 USD" in found.cheaper_reasons["few_shot"]
    by_tokens = found.scenarios["tokens"].payback[
        "few_shot"
    ]  # a price list does not hang on the hour
    assert by_tokens.low == by_tokens.requests == by_tokens.high


def test_an_arm_that_saves_nothing_never_pays():
    found = costs({"few_shot": arm("few_shot", 500, 100), "tuned": arm("tuned", 500, 100)})
    assert (
        found.break_even_reason
        == "Break-even: never; a tuned request is not cheaper than a few_shot request"
    )
    assert (found.break_even_requests, found.break_even_high, found.cheaper) == (
        None,
        None,
        {"few_shot": False},
    )


def test_hosting_may_eat_the_saving():
    assert (
        costs(hosting_per_month=0.075).break_even_requests == 4000
    )  # half of the 0.15 that a month saves
    eaten = costs(hosting_per_month=0.2)
    assert eaten.break_even_requests is None and not eaten.cheaper["few_shot"]
    assert (
        "hosting costs 0.20 USD a month, but 1,000 requests a month save only 0.15 USD"
        in eaten.break_even_reason
    )


def rounds(*factors, output=()):
    """Rates that a busy machine makes slower, or of which it makes only the answers' slower."""
    outputs = output or factors
    return {
        "base": [
            {level: Rates(r.prompt_token * f, r.cached_token * f, r.output_token * o, 0.0)
             for level, r in (("batches", RATES), ("server", SERVER))}
            for f, o in zip(factors, outputs, strict=True)
        ]
    }  # fmt: skip


def test_the_bounds_hold_the_noise_of_the_machine():
    arms = {
        "few_shot": arm("few_shot", 1000, 10),
        "tuned": arm("tuned", 500, 50),
    }  # trades prompts for answers
    quiet = costs(arms)
    noisy = costs(arms, timings=rounds(1.0, 1.0, 1.0, output=(0.5, 1.0, 1.5)))
    assert quiet.break_even_requests is not None and quiet.cheaper["few_shot"]
    saving = noisy.scenarios["batches"].payback["few_shot"].saving
    assert (
        saving.low < 0 < saving.value
        and noisy.break_even_requests is None
        and not noisy.cheaper["few_shot"]
    )
    assert "Break-even: unknown; 1,000 tuned requests" in noisy.break_even_reason
    assert noisy.break_even_reason.endswith("so there may be no saving")


def test_a_machine_that_is_slow_for_all_arms_hides_no_saving():
    found = costs(timings=rounds(1.0, 1.1, 1.2))
    assert found.break_even_low < found.break_even_requests < found.break_even_high
    assert found.cheaper["few_shot"]


def test_bounds_of_rows_are_those_of_t_and_repeats_widen_them():
    rows = np.random.default_rng(1).normal(size=40)
    half = t.ppf(0.95, 39) * rows.std(ddof=1) / 40**0.5
    found = get_bounds(rows[None], 0.95)
    assert (found.low, found.high) == pytest.approx((rows.mean() - half, rows.mean() + half))
    shifted = get_bounds(np.stack([rows - 1, rows, rows + 1]), 0.95)
    assert shifted.value == pytest.approx(found.value) and shifted.low < found.low - 1
    assert get_bounds(np.ones((3, 1)), 0.95).low == -np.inf
    assert get_bounds(np.ones((3, 9)), 0.95) == Bounds(1.0, 1.0, 1.0)


def test_bounds_cover_as_often_as_they_say():
    random = np.random.default_rng(7)
    missed = 0
    for _ in range(1000):
        values = random.normal(size=(1, 30)) + random.normal(scale=0.3, size=(3, 1))
        missed += get_bounds(values, 0.95).low > 0
    assert 20 <= missed <= 75


def test_labelling_counts_once_and_not_against_an_arm_that_needs_labels_too():
    arms = ARMS | {"retrieval": arm("retrieval", 2000, 100)}
    labelled = labelled_costs(arms, 0.01)
    few_shot, retrieval = (
        labelled.scenarios["batches"].payback[name] for name in ("few_shot", "retrieval")
    )
    assert labelled.labelling == pytest.approx(2.0) and labelled.training == pytest.approx(0.3)
    assert few_shot.requests_without_labelling == 2000 and few_shot.requests == pytest.approx(
        2.3 / 0.00015, abs=2
    )
    assert retrieval.requests == retrieval.requests_without_labelling


def labelled_costs(arms, price):
    measured = Measurements(arms, {"tuned": TRAINING}, STEADY, training_rows=200, right=None)
    prices = Prices(**PRICES | {"training": PRICES["training"] | {"per_labelled_row": price}})
    return get_costs(prices, measured, "tuned", "few_shot", 0.95)


def test_an_arm_without_a_model_costs_its_seconds_alone():
    found = costs(
        ARMS | {"lookup": arm("lookup", 0, 0, seconds=1e-5, spread=0)}, alternative="lookup"
    )
    assert [s.per_request["lookup"] for s in found.scenarios.values()] == [pytest.approx(1e-8)] * 4
    assert "never" in found.break_even_reason and not found.cheaper["lookup"]
    assert (
        "tuned is not cheaper than lookup: 1,000 requests cost 1.5 USD (bounds 1.5 to 1.5) more"
        in (found.cheaper_reasons["lookup"])
    )


def test_the_remote_arm_costs_its_tokens_in_every_scenario():
    found = costs(
        ARMS | {"remote": arm("remote", 1000, 100, spread=0)},
        alternative="remote",
        remote=BASE_LIST,
    )
    assert [s.per_request["remote"] for s in found.scenarios.values()] == [
        pytest.approx(1400 / 1e6)
    ] * 4


def test_a_remote_arm_that_does_not_count_its_tokens_has_no_costs():
    found = costs(ARMS | {"remote": arm("remote", 0, 0, spread=0)}, alternative="remote")
    assert found.per_request["remote"] is None and found.cheaper["remote"] is False
    assert (
        "does not report its token counts" in found.break_even_reason
        and found.break_even_requests is None
    )


def test_between_two_tuned_arms_training_and_hosting_are_the_difference():
    arms = {"rival": arm("rival", 2000, 100), "tuned": arm("tuned", 500, 100)}
    training = {"tuned": TRAINING, "rival": TRAINING | {"seconds": 400.0}}
    found = costs(arms, alternative="rival", training=training, hosting_per_month=1e6)
    assert found.break_even_requests == 0 and found.cheaper["rival"]
    assert found.break_even_reason.startswith("Break-even: immediately")


def test_a_model_of_its_own_kind_has_rates_of_its_own():
    small = [{"batches": Rates(1e-6, 1e-6, 0.0, 0.0), "server": Rates(1e-6, 1e-6, 0.0, 0.0)}] * 3
    found = costs(timings=STEADY | {"tuned": small})
    assert found.per_request["tuned"] == pytest.approx(500e-6 / 1e3, rel=2e-3)
    assert found.per_request["few_shot"] == costs().per_request["few_shot"]


RIGHT = {"few_shot": np.arange(50) % 2, "tuned": np.ones(50)}


def test_a_right_answer_costs_more_where_few_are_right():
    found = costs(right=RIGHT).scenarios["batches"]
    assert found.per_right_answer["few_shot"] == pytest.approx(2 * found.per_request["few_shot"])
    nothing = costs(right=RIGHT | {"few_shot": np.zeros(50)}).scenarios["batches"].per_right_answer
    assert (
        nothing["few_shot"] is None
        and costs().scenarios["batches"].per_right_answer["tuned"] is None
    )


def test_what_right_answers_are_worth_decides_where_it_is_known():
    assert costs(right=RIGHT).worth is None and costs(value_of_right_answer=1.0).worth is None
    found = costs(right=RIGHT, value_of_right_answer=0.1).worth
    request = 0.1 * 1 - costs().per_request["tuned"] - 0.3 / 12_000
    assert found.best == "tuned" and found.per_request["tuned"] == pytest.approx(request)
    assert found.ahead.low > 0 and "tuned is worth most" in found.sentence
    loss = costs(right=RIGHT, value_of_right_answer=0.0001).worth
    assert "which is a loss" in loss.sentence


def test_electricity_is_told_for_the_arms_that_measured_it():
    assert costs().energy is None
    found = costs(
        training={"tuned": TRAINING | {"energy": {"country": "DEU", "kwh": 0.1, "co2_kg": 0.03}}}
    )
    assert found.energy == {
        "country": "DEU",
        "training_kwh": 0.1,
        "training_co2_kg": 0.03,
        "request_kwh": {},
    }


class Clockwork:
    """An engine that takes known seconds, in each round by a factor longer."""

    def __init__(self, monkeypatch, slower=(1.0,) * 100):
        self.now = 0.0
        self.calls = 0
        self.slower = slower
        monkeypatch.setattr("stages.evaluate.costs.timings.time.perf_counter", lambda: self.now)

    def generate(self, prompts, *, max_new_tokens, title, ignore_eos):
        assert (
            ignore_eos
            and title is None
            and len({tuple(prompt) for prompt in prompts}) == len(prompts)
        )
        rows = len(prompts)
        length = len(prompts[0])
        shared = common_prefix(prompts)
        seconds = 1e-3 * (shared + rows * (length - shared)) + 1e-5 * rows * shared
        self.now += self.slower[self.calls // 9] * (
            seconds + rows * (max_new_tokens - 1) * (1e-2 + 1e-6 * length)
        )
        self.calls += 1


def test_rates_are_those_of_the_engine(config, base, monkeypatch):
    settings = config()
    tokenizer = get_tokenizer(base)
    for one in time_engine(Clockwork(monkeypatch), tokenizer, settings):
        for rates in one.values():
            assert (rates.prompt_token, rates.cached_token) == pytest.approx((1e-3, 1e-5), rel=0.05)
            assert (rates.output_token, rates.output_token_context) == pytest.approx(
                (1e-2, 1e-6), rel=0.05
            )
    slower = (9.0, 1.0, 2.0, 3.0)  # the first round is thrown away
    found = time_engine(Clockwork(monkeypatch, slower), tokenizer, settings)
    assert [one["server"].output_token for one in found] == pytest.approx(
        [1e-2, 2e-2, 3e-2], rel=0.05
    )


def test_an_engine_is_timed_and_read_back(config, base, workspace):
    settings = config("evaluate.prices.machine.batch_size=4")
    tokenizer = get_tokenizer(base)
    with get_engine(settings, base, tokenizer) as engine:
        found = time_engine(engine, tokenizer, settings)
    write_timings({"base": found})
    assert len(found) == 3 and read_timings() == {"base": found}
    assert all(one[level].prompt_token > 0 for one in found for level in ("batches", "server"))
    assert list(json.loads(TIMINGS.read_text())) == ["base"]
