"""The check of a GPU, rehearsed without one: all of its code runs, and its checks can fail."""

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks import gpu_cases, gpu_check
from benchmarks.gpu_cases import Case
from benchmarks.gpu_correctness import Check, compare_gradients, get_checks
from benchmarks.gpu_process import TIME_UP, run_process
from benchmarks.gpu_shapes import SHAPES, SMALL_SHAPES, TOYS
from benchmarks.gpu_table import describe
from benchmarks.gpu_tests import TESTS, find_outcome
from stages.train.trainers import varlen_attention
from tests.conftest import ROOT

NEEDS = ("needs a GPU", "is not installed", "names no interpreter that has Unsloth")


@pytest.fixture
def rehearsal(workspace, monkeypatch):
    """A folder with the configuration, in which a rehearsal runs."""
    (workspace / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--rehearse"])
    return workspace


def read_table():
    """Return the text of the result, the rows of its cases and the rows of its checks."""
    text = Path("benchmarks/results/gpu-check-rehearsal.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    names = get_checks(True)
    return (
        text,
        [row for row in rows if row[0].startswith("| toy")],
        [row for row in rows if row[0].removeprefix("| ") in names],
    )


def test_a_rehearsal_runs_every_check_and_every_way_to_train(rehearsal):
    gpu_check.main()
    text, rows, checks = read_table()
    assert len(rows) == len(gpu_check.get_cases(True)) - 1  # the profile has a table of its own
    assert len(checks) == len(get_checks(True)) and "**no**" not in text
    for row in rows:
        missing = any(need in row[3] for need in NEEDS)
        assert missing or float(row[3].replace(",", "")) > 0
    count = Counter(row[1] for row in checks)
    assert count["yes"] >= 9 and all(
        any(need in row[2] for need in NEEDS) for row in checks if row[1] == "not run"
    )
    assert "| `stages/train/trainers/sft.py:" in text  # a line that waits for the GPU


def test_when_time_is_up_the_table_names_what_was_not_run(rehearsal, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--rehearse", "--minutes", "0"])
    gpu_check.main()
    _, rows, checks = read_table()
    assert len(rows) == len(gpu_check.get_cases(True))
    assert len(checks) == len(get_checks(True))
    assert all(TIME_UP in row[2] for row in checks)
    assert all(any(reason in row[3] for reason in (TIME_UP, *NEEDS)) for row in rows)
    assert any(TIME_UP in row[3] for row in rows)


def test_a_wrong_kernel_fails_the_check_and_an_error_is_no_end(rehearsal, monkeypatch):
    with gpu_check.stand_in(True):
        right = varlen_attention.varlen_attn
        monkeypatch.setattr(
            varlen_attention,
            "varlen_attn",
            lambda *args, **others: right(*args, **{**others, "window_size": (-1, -1)}),
        )
        done = compare_gradients("acausal", TOYS[1], {})
        half = compare_gradients("acausal, float16", TOYS[1], {"float16": True})
    assert done.passed is False and half.passed is False
    end = time.monotonic() + 60
    broken = gpu_check.run_check("broken", lambda: 1 / 0, True, end)
    assert not broken.passed and broken.found == "ZeroDivisionError: division by zero"


def test_cases_of_known_shapes_and_what_is_left_when_time_is_up():
    sizes = [shape.dimensions.parameters / 1e9 for shape in SHAPES + SMALL_SHAPES]
    assert sizes == pytest.approx([1.7, 0.6, 8.2, 1.7, 8.2], rel=0.15)
    cases = gpu_check.get_cases(False)
    assert {(case.shape, case.rows) for case in cases} == {
        *((shape.name, rows) for shape in SHAPES for rows in ("short", "long")),
        *((shape.name, "long") for shape in SMALL_SHAPES),
    }
    assert len(set(cases)) == len(cases)
    found = gpu_check.run_case(replace(cases[0]), False, end=0.0)
    assert found["why"] == TIME_UP


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"liger": True}, "liger-kernel is not installed"),
        ({"shape": SMALL_SHAPES[0].name}, "bitsandbytes is not installed"),
        ({"shape": SMALL_SHAPES[1].name}, "bitsandbytes is not installed"),
        ({"rival": "unsloth"}, "names no interpreter that has Unsloth"),
        ({"grpo": True, "continuous": True}, "needs a GPU"),
        ({}, None),
    ],
)
def test_a_case_says_what_it_lacks(monkeypatch, change, said):
    monkeypatch.setattr(gpu_cases, "find_spec", lambda package: None)
    monkeypatch.delenv(gpu_cases.ENVIRONMENT, raising=False)
    found = gpu_cases.get_missing(replace(Case("this stage", TOYS[0].name, "short"), **change))
    assert found == said or said in found


def test_a_process_that_fails_says_why():
    case = Case("this stage", "unknown shape", "short")
    found = run_process("gpu_rates", json.dumps(asdict(case)), 60, time.monotonic() + 60)
    assert "StopIteration" in found["why"] and not found["cut"]


def test_a_process_ends_in_time_with_all_that_it_has_started(tmp_path, monkeypatch):
    started = tmp_path / "started"
    child = f"import time, pathlib; pathlib.Path({str(started)!r}).touch(); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    command = [sys.executable, "-c", parent]
    popen = subprocess.Popen
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", lambda _, **others: popen(command, **others))
        late = run_process("gpu_rates", "", 2, time.monotonic() + 60)
        cut = run_process("gpu_rates", "", 60, time.monotonic() + 2)
    assert late == {"why": "not finished after 2 s", "cut": False}
    assert cut["cut"] and cut["why"].startswith(TIME_UP)
    assert started.exists()
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(started) not in processes.stdout


def test_a_check_that_time_cuts_off_has_not_failed(monkeypatch):
    for cut, passed in ((True, None), (False, False)):
        told = {"why": "late", "cut": cut}
        monkeypatch.setattr(gpu_check, "run_process", lambda *_, told=told: told)
        assert gpu_check.run_check("x", lambda: None, False, time.monotonic() + 9) == Check(
            "x", passed, "late"
        )
    monkeypatch.setattr(gpu_check, "run_process", lambda *_: {"found": ["x", True, "well"]})
    done = gpu_check.run_check("x", lambda: None, False, time.monotonic() + 9)
    assert done == Check("x", True, "well")


def test_tests_that_a_gpu_runs_exist_and_their_failures_are_named():
    paths = {part.rpartition("=")[2] for arguments in TESTS.values() for part in arguments}
    assert all((ROOT / path).exists() for path in paths if path.startswith("tests"))
    assert find_outcome("1 failed\nFAILED a\nERROR b") == "FAILED a; ERROR b"
    assert find_outcome("....\n4 passed") == "4 passed" and find_outcome("") == "no output"


def test_a_table_of_lines_that_wait_names_the_most_frequent():
    waits = {f"line {n}": 1.0 for n in range(23)}
    found = {"model": "1.7B", "rows": "short", "contender": "waits"}
    text = describe([], [found | {"waits": waits}, found | {"waits": {}}], False)
    assert text.count("| `line") == 20 and "| 3 further lines | |" in text and "| none |" in text


def test_without_a_gpu_only_a_rehearsal_runs(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    with pytest.raises(SystemExit, match="needs a GPU, but torch sees none"):
        gpu_check.main()
