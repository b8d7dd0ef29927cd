import numpy as np
import orjson
import pytest

from stages.core.statistics.scores import Scores
from stages.evaluate.analysis.curve import FILE, Point, fit_curve, get_curve_key, read_curve


def scores_of(value, rows=400):
    """Of these rows the first ones are right."""
    right = (np.arange(rows) < round(value * rows)).astype(float)
    return Scores(np.stack([right, np.ones(rows)], axis=1))


def points_of(values, rows=400):
    """Points with the metric of each seed; of each the first rows are right."""
    return [
        Point(share, size, [scores_of(v, rows) for v in seeds])
        for (share, size), seeds in values.items()
    ]


def fit(values, groups=None, rows=400):
    return fit_curve(points_of(values, rows), 0.95, 42, groups)


def test_a_power_law_is_found_and_carried_on():
    # Failures 0.4, 0.2, 0.1: each doubling halves them, so that all fits agree.
    curve = fit({(0.25, 100): [0.6], (0.5, 200): [0.8], (1.0, 400): [0.9]})
    assert [curve["doubling"][key] for key in ("value", "low", "high")] == pytest.approx([0.05] * 3)
    assert curve["doubling"]["ci_low"] < 0.05 < curve["doubling"]["ci_high"]
    assert [point["value"] for point in curve["points"]] == [0.6, 0.8, 0.9]
    assert curve["fit"][0]["value"] == pytest.approx(0.6) and curve["fit"][-1][
        "value"
    ] == pytest.approx(0.95)
    assert curve["fit"][-1]["rows"] == pytest.approx(800)
    assert (
        "0.600 with 100 rows" in curve["sentence"]
        and "about 0.05 to 0.05 if the trend" in curve["sentence"]
    )
    assert "but not of training; 3 points, one seed" in curve["sentence"]


def test_a_curve_that_slows_down_has_a_range_and_not_one_number():
    # Failures of the default's first curve: the power law says .108, the last two points .090, the slowing .059.
    curve = fit(
        {(0.25, 174): [0.7667 - 0.5336], (0.5, 348): [0.578], (1.0, 696): [0.708]}, rows=10_000
    )
    assert (
        curve["doubling"]["value"] == pytest.approx(0.108, abs=0.002) == curve["doubling"]["high"]
    )
    assert curve["doubling"]["low"] == pytest.approx(0.059, abs=0.002)
    assert "about 0.06 to 0.11 if the trend continues" in curve["sentence"]


def test_more_data_that_does_not_help_brings_nothing():
    curve = fit({(0.5, 200): [0.7, 0.7], (1.0, 400): [0.7, 0.7]})
    assert curve["doubling"]["low"] == curve["doubling"]["high"] == pytest.approx(0)
    assert "2 points, 2 seeds each" in curve["sentence"]


def test_a_perfect_model_has_a_curve_too():
    curve = fit({(0.5, 200): [0.9], (1.0, 400): [1.0]})
    assert 0.9 < curve["fit"][-1]["value"] <= 1


def test_seeds_that_differ_widen_the_interval_of_a_point_and_of_the_gain():
    alike = fit({(0.5, 200): [0.7, 0.7], (1.0, 400): [0.8, 0.8]})
    apart = fit({(0.5, 200): [0.65, 0.75], (1.0, 400): [0.75, 0.85]})
    assert alike["points"][0]["value"] == pytest.approx(apart["points"][0]["value"])
    assert apart["points"][0]["seeds"] == [0.65, 0.75]

    def width(found):
        return found["ci_high"] - found["ci_low"]

    assert width(apart["points"][0]) > 1.5 * width(alike["points"][0])
    assert width(apart["doubling"]) > 1.2 * width(alike["doubling"])


def test_rows_of_a_group_count_as_one():
    values = {(0.5, 200): [0.7], (1.0, 400): [0.8]}
    rows = fit(values)["points"][0]
    grouped = fit(values, np.arange(400) // 20)["points"][0]
    assert grouped["ci_high"] - grouped["ci_low"] > 3 * (rows["ci_high"] - rows["ci_low"])


def test_the_interval_of_a_point_is_students():
    point = fit({(0.5, 200): [0.7], (1.0, 400): [0.8]})["points"][1]
    half = 1.966 * (0.8 * 0.2 / 400) ** 0.5
    assert point["ci_low"] == pytest.approx(0.8 - half, abs=0.003)
    assert point["ci_high"] == pytest.approx(0.8 + half, abs=0.003)


def test_a_curve_is_read_only_for_what_it_was_measured_on(config, prepared):
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(orjson.dumps({"key": get_curve_key(config()), "curve": {"sentence": "yes"}}))
    assert read_curve(config()) == {"sentence": "yes"}
    assert read_curve(config("train.train_fraction=0.5")) == {
        "sentence": "yes"
    }  # one of its own points
    assert read_curve(config("train.seeds=[7]")) == {"sentence": "yes"}
    assert read_curve(config("train.args.learning_rate=1e-4")) is None
    FILE.write_bytes(b"{}")
    assert read_curve(config()) is None
    FILE.unlink()
    assert read_curve(config()) is None
