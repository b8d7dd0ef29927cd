import numpy as np
import orjson
import pytest

from stages.core.metrics import Scores
from stages.evaluate.curve import FILE, Point, fit_curve, get_curve_key, read_curve

CONFIDENCE = 0.95


def points_of(values, rows=400):
    """Points with these metrics: of each the first rows are right."""
    found = []
    for (share, size), value in values.items():
        right = (np.arange(rows) < value * rows).astype(float)
        found.append(Point(share, size, [Scores(np.stack([right, np.ones(rows)], axis=1))]))
    return found


def test_a_power_law_is_found_and_carried_on():
    # Failures 0.4, 0.2, 0.1: each doubling halves them.
    curve = fit_curve(points_of({(0.25, 100): 0.6, (0.5, 200): 0.8, (1.0, 400): 0.9}), CONFIDENCE)
    assert curve["doubling"] == pytest.approx({"low": 0.05, "high": 0.05})
    assert [point["value"] for point in curve["points"]] == [0.6, 0.8, 0.9]
    assert curve["fit"][0]["value"] == pytest.approx(0.6) and curve["fit"][-1]["value"] == pytest.approx(0.95)
    assert curve["fit"][-1]["rows"] == pytest.approx(800)
    assert "0.600 with 100 rows" in curve["sentence"]
    assert "should add about 0.05 to 0.05 if the trend continues" in curve["sentence"]


def test_more_data_that_does_not_help_brings_nothing():
    curve = fit_curve(points_of({(0.5, 200): 0.7, (1.0, 400): 0.7}), CONFIDENCE)
    assert curve["doubling"] == pytest.approx({"low": 0, "high": 0})


def test_a_trend_that_slows_and_seeds_that_differ_widen_the_range():
    slowing = points_of({(0.25, 100): 0.3, (0.5, 200): 0.6, (1.0, 400): 0.65})
    low, high = fit_curve(slowing, CONFIDENCE)["doubling"].values()
    assert low < 0.06 and high > 0.09  # the last two points alone promise less than all three
    other = points_of({(0.25, 100): 0.3, (0.5, 200): 0.55, (1.0, 400): 0.7})
    both = [Point(a.share, a.rows, [*a.runs, *b.runs]) for a, b in zip(slowing, other, strict=True)]
    wide = fit_curve(both, CONFIDENCE)
    assert wide["doubling"]["low"] == pytest.approx(low) and wide["doubling"]["high"] > high
    assert "3 points with 2 training runs each" in wide["sentence"]


def test_a_perfect_model_has_a_curve_too():
    curve = fit_curve(points_of({(0.5, 200): 0.9, (1.0, 400): 1.0}), CONFIDENCE)
    assert 0.9 < curve["fit"][-1]["value"] <= 1


def test_a_curve_is_read_only_for_what_it_was_measured_on(config, prepared):
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(orjson.dumps({"key": get_curve_key(config()), "curve": {"sentence": "yes"}}))
    assert read_curve(config()) == {"sentence": "yes"}
    assert read_curve(config("train.share=0.5")) == {"sentence": "yes"}  # one of its own points
    assert read_curve(config("train.args.learning_rate=1e-4")) is None
    FILE.write_bytes(b"{}")
    assert read_curve(config()) is None
    FILE.unlink()
    assert read_curve(config()) is None
