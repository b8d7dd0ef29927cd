import numpy as np
import orjson
import pytest

from stages.core.metrics import Scores
from stages.evaluate.curve import FILE, Point, fit_curve, get_curve_key, read_curve
from stages.evaluate.statistics import Resampling

HOW = Resampling(0.95, 500, 42)


def points_of(values, rows=400):
    """Points with these metrics: of each the first rows are right."""
    found = []
    for (share, size), value in values.items():
        right = (np.arange(rows) < value * rows).astype(float)
        found.append(Point(share, size, Scores(np.stack([right, np.ones(rows)], axis=1))))
    return found


def test_a_power_law_is_found_and_carried_on():
    # Failures 0.4, 0.2, 0.1: each doubling halves them.
    curve = fit_curve(points_of({(0.25, 100): 0.6, (0.5, 200): 0.8, (1.0, 400): 0.9}), HOW)
    assert curve["doubling"]["value"] == pytest.approx(0.05)
    assert curve["doubling"]["ci_low"] < 0.05 < curve["doubling"]["ci_high"]
    assert [point["value"] for point in curve["points"]] == [0.6, 0.8, 0.9]
    assert curve["fit"][0]["value"] == pytest.approx(0.6) and curve["fit"][-1]["value"] == pytest.approx(0.95)
    assert curve["fit"][-1]["rows"] == pytest.approx(800)
    assert "0.600 with 100 rows" in curve["sentence"] and "+0.050" in curve["sentence"]


def test_more_data_that_does_not_help_brings_nothing():
    curve = fit_curve(points_of({(0.5, 200): 0.7, (1.0, 400): 0.7}), HOW)
    assert curve["doubling"]["value"] == pytest.approx(0)


def test_a_perfect_model_has_a_curve_too():
    curve = fit_curve(points_of({(0.5, 200): 0.9, (1.0, 400): 1.0}), HOW)
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
