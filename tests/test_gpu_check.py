"""The check of a GPU, rehearsed without one: all of its code runs, and its checks can fail."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_correctness import compare_gradients
from benchmarks.gpu_rates import Case
from benchmarks.gpu_shapes import SHAPES, TOYS
from stages.train.trainers import varlen_attention
from tests.conftest import ROOT


@pytest.fixture
def rehearsal(workspace, monkeypatch):
    """A folder with the configuration, in which a rehearsal runs."""
    (workspace / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--rehearse"])
    return workspace


def test_a_rehearsal_runs_every_check_and_every_way_to_train(rehearsal):
    gpu_check.main()
    text = Path("benchmarks/results/gpu-check-rehearsal.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| toy")]
    assert len(rows) == len(gpu_check.get_cases(True)) and "**no**" not in text
    assert all(float(row[3].replace(",", "")) > 0 for row in rows)


def test_a_wrong_kernel_fails_the_check_and_an_error_is_no_end(rehearsal, monkeypatch):
    with gpu_check.stand_in(True):
        right = varlen_attention.varlen_attn
        monkeypatch.setattr(
            varlen_attention,
            "varlen_attn",
            lambda *args, **others: right(*args, **{**others, "window_size": (-1, -1)}),
        )
        done = compare_gradients("acausal", TOYS[1], {"attention": "varlen"})
    assert not done.passed
    broken = gpu_check.run_check("broken", lambda: 1 / 0)
    assert not broken.passed and broken.found == "ZeroDivisionError: division by zero"


def test_cases_of_known_shapes_and_what_is_left_when_time_is_up(capsys):
    sizes = [shape.dimensions.parameters / 1e9 for shape in SHAPES]
    assert sizes == pytest.approx([1.7, 0.6, 8.2], rel=0.15)
    cases = gpu_check.get_cases(False)
    assert {(case.shape, case.rows) for case in cases} == {
        (shape.name, rows) for shape in SHAPES for rows in ("short", "long")
    }
    found = gpu_check.run_case(replace(cases[0]), False, end=0.0)
    assert found["why"] == "not run: time was up"


def test_a_process_that_fails_says_why(monkeypatch):
    case = Case("this stage", "unknown shape", "short")
    assert "StopIteration" in gpu_check.run_process(case, 60)["why"]
    assert json.loads(gpu_check.to_json(case))["shape"] == "unknown shape"


def test_without_a_gpu_only_a_rehearsal_runs(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    with pytest.raises(SystemExit, match="needs a GPU, but torch sees none"):
        gpu_check.main()
