"""Test that the simulations behind the error rates in docs/evidence.md run and draw their truth."""

import numpy as np
import pytest

from benchmarks import looks
from benchmarks.simulation import SCORES_BY_METRIC
from benchmarks.verdict import get_cases, is_wrong, simulate
from stages.evaluate.analysis.arms import Rule

CASES = list(get_cases(0.02))


def test_every_case_of_the_table_is_judged():
    table = [
        simulate(case, Rule(0.02, 0.95), 2)
        for case in CASES
        if case.rows <= 50 or case.groups or case.looks > 1
    ]
    verdicts = {"fine-tune", "prompt", "no-model", "neither", "not-enough-evidence"}
    assert all(sum(line[verdict] for verdict in verdicts) == 1 for line in table)


@pytest.mark.parametrize("metric", SCORES_BY_METRIC)
@pytest.mark.parametrize("value", [0.05, 0.5])
def test_a_metric_has_the_value_that_it_was_drawn_with(metric, value):
    random = np.random.default_rng(42)
    latent, shared = random.normal(size=(2, 200_000))
    if metric == "micro_f1":  # this metric depends only on what an arm does not share
        latent = 0.8 * shared + 0.6 * latent
    assert SCORES_BY_METRIC[metric](latent, value, shared).value == pytest.approx(value, abs=0.01)


def test_a_wrong_verdict_is_one_that_the_truth_contradicts():
    truth = {
        "constant": 0.2,
        "nearest": 0.3,
        "zero_shot": 0.0,
        "few_shot": 0.5,
        "retrieval": 0.4,
        "constrained": 0.4,
    }
    gain = truth | {"tuned": 0.6}
    none = truth | {"tuned": 0.52}
    assert is_wrong("fine-tune", none, 0.02) and not is_wrong("fine-tune", gain, 0.02)
    assert is_wrong("prompt", gain, 0.02) and not is_wrong("prompt", truth | {"tuned": 0.5}, 0.02)


def test_looks_at_the_same_rows_are_simulated(monkeypatch):
    monkeypatch.setattr(looks, "SERIES", 5)
    assert len(looks.judge_series()) == len(looks.replace_champions()) == 3
