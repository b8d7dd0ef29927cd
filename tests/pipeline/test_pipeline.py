"""The pipeline as a user runs it: real DVC, in a temporary repository, on the tiny model and the example rows."""

import json
import os
import subprocess
import sys
import time

import pytest

from stages.core.tracking.tracker import STAGES
from stages.core.tracking.view import DECISIVE
from tests.pipeline.runs import get_files, get_runs

SMOKE = ("dvc", "exp", "run", "-S", "experiment=smoke")
pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def run(clone):
    """The same after a first experiment."""
    clone(*SMOKE, "-n", "first")
    return clone


def looks(folder):
    return {path.name: path.read_bytes() for path in (folder / "data/test_looks").glob("*/*.json")}


def test_everything_is_there_and_one_mlflow_run_carries_it(run):
    for path in (
        "reports/verdict.html",
        "reports/verdict.md",
        "models/tuned/training.json",
        "plots/arms.json",
    ):
        assert (run.folder / path).stat().st_size > 100, path
    assert json.loads((run.folder / "metrics/register.json").read_text())["registered"] is True
    parent = get_runs(run.folder)["first"]
    assert parent.info.status == "FINISHED"
    arms = {"constant", "nearest", "zero_shot", "few_shot", "retrieval", "tuned", "candidate"}
    assert {f"primary.{arm}" for arm in arms} | set(DECISIVE) <= set(parent.data.metrics) and len(
        parent.data.metrics
    ) < 20
    assert len(looks(run.folder)) == 1
    assert not (run.folder / "outputs").exists() and not list(run.folder.glob("*.log"))


def test_a_second_repro_does_nothing(run):
    said = run("dvc", "repro")
    assert "Data and pipelines are up to date" in said and "Running stage" not in said


def test_show_prints_the_verdict_and_adds_no_row(run):
    before = set(get_runs(run.folder))
    said = run(sys.executable, "-m", "tools.verdict")
    assert set(get_runs(run.folder)) == before
    assert "Verdict:" in said and "tuned - few_shot" in said and "verdict.html" in said


def test_the_learning_curve_trains_on_parts_and_gets_into_the_report(run):
    before = run("git", "status", "--short")
    said = " ".join(
        run(sys.executable, "-m", "tools.learning_curve", "0.5", "1").split()
    )  # lines break where they like
    assert "Doubling the rows should add about" in said and "2 points, 2 seeds each" in said
    assert "Running stage 'baseline'" not in said
    assert said.count("Running stage 'train'") == 2
    # Nothing of the workspace but the file has changed.
    assert set(run("git", "status", "--short").splitlines()) - set(before.splitlines()) == {
        " M data/learning_curve.json"
    }
    # From the same workspace, what was trained and asked already comes from the cache.
    first = (run.folder / "data/learning_curve.json").read_bytes()
    run("git", "checkout", "-q", "--", "data/learning_curve.json")
    said = run(sys.executable, "-m", "tools.learning_curve", "0.5", "1")
    assert "Running stage" not in said
    assert (run.folder / "data/learning_curve.json").read_bytes() == first
    said = run("dvc", "repro")
    assert "Running stage 'evaluate'" in said and "Running stage 'train'" not in said
    curve = json.loads((run.folder / "reports/verdict.json").read_text())["curve"]
    assert [(point["train_fraction"], len(point["seeds"])) for point in curve["points"]] == [
        (0.5, 2),
        (1.0, 2),
    ]
    assert json.loads((run.folder / "data/learning_curve.json").read_text())["same_for_all"] == {
        "max_steps": 4
    }
    assert curve["sentence"] in (run.folder / "reports/verdict.html").read_text()
    assert "above 0 and at most 1" in run(
        sys.executable, "-m", "tools.learning_curve", "0.5", "2", fails=True
    )


def test_an_edit_in_conf_does_not_run_with_old_values(run):
    path = run.folder / "conf/evaluate/text.yaml"
    text = path.read_text()
    path.write_text(text.replace("margin: 0.02", "margin: 0.03"))
    said = run("dvc", "repro", fails=True)
    assert (
        "conf/ has changed since params.yaml was composed" in said
        and "Running stage 'prepare'" not in said
    )
    path.write_text(text)
    assert "Running stage 'prepare'" not in run("dvc", "repro")


def test_a_harmless_run_ends_where_its_answers_are_the_same(run):
    """The seconds of `baseline` differ, and `evaluate` does not run again because of them."""
    run("git", "checkout", "-q", "--", ".")
    run(*SMOKE, "-n", "again")
    code = run.folder / "stages/baseline/arms.py"
    before = code.read_text()
    code.write_text(before + "# A comment.\n")
    said = run("dvc", "repro")
    code.write_text(before)
    assert {stage for stage in STAGES if f"Running stage '{stage}'" in said} == {"baseline"}


def test_a_bad_value_stops_before_any_work(run):
    said = run(*SMOKE, "-S", "train.micro_batch_tokens=none", fails=True)
    assert "train.micro_batch_tokens: should be auto or a whole number" in said
    assert "Traceback" not in said


def test_a_queued_sweep_runs_what_changed_in_copies_and_shares_the_store_and_the_ledger(
    run, environment
):
    before = looks(run.folder)
    run(*SMOKE, "--queue", "-S", "train.args.learning_rate=2e-4,3e-4")
    # Not waited for: a worker may miss DVC's signal to end, once the queue is empty, and would hold the command's pipe.
    start = ["dvc", "queue", "start", "-j", "2"]
    silent = subprocess.DEVNULL
    workers = subprocess.Popen(start, cwd=run.folder, env=environment, stdout=silent, stderr=silent)
    until = time.monotonic() + 1800
    while (said := run("dvc", "queue", "status")).count("Success") < 2:
        assert time.monotonic() < until and "Failed" not in said, said
        time.sleep(10)  # asking takes three seconds of a core
    run("dvc", "queue", "stop")
    workers.kill()
    workers.wait()
    parents = {
        parent.data.params["train.args.learning_rate"]: parent
        for parent in get_runs(run.folder).values()
    }
    for rate in ("0.0002", "0.0003"):
        parent = parents[rate]
        said = run("dvc", "queue", "logs", parent.info.run_name)
        ran = {stage for stage in STAGES if f"Running stage '{stage}'" in said}
        assert ran == {"train", "evaluate", "register"}
        # Also what came from the cache is in the run.
        assert "primary.tuned" in parent.data.metrics
        assert "metrics/baseline.json" in get_files(run.folder, parent)
    table = run("dvc", "exp", "show", "--csv")
    assert "train.args.learning_rate" in table and "0.0003" in table
    # Both models are two looks at the test rows more, and no experiment that is applied takes a look back.
    after = looks(run.folder)
    assert after.items() > before.items() and len(after) == len(before) + 2
    run("dvc", "exp", "apply", "first")
    assert looks(run.folder) == after


def test_a_server_that_is_away_is_a_warning(run):
    said = run(
        *SMOKE, "-S", "seed=7", "-S", "tracking=server",
        "-S", "tracking.uri=http://127.0.0.1:9", "-S", "tracking.timeout=1", "prepare",
    )  # fmt: skip
    assert "does not answer" in said and "Traceback" not in said


def test_a_killed_train_starts_clean(run, environment):
    run("git", "checkout", "-q", "--", ".")
    command = [*SMOKE, "-S", "train.args.max_steps=5000", "train"]
    process = subprocess.Popen(
        command,
        cwd=run.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    seen = b""
    while b"/5000 [" not in seen:
        seen += (chunk := os.read(process.stdout.fileno(), 4096))
        assert chunk, seen.decode()
    os.killpg(process.pid, 9)
    process.wait()
    assert not (run.folder / "models/tuned").exists()
    training = run.folder / "models/tuned/training.json"
    said = run(*SMOKE, "-S", "train.args.max_steps=3", "train")
    assert (
        "Running stage 'train'" in said
        and json.loads(training.read_text())["numbers"]["steps"] == 3
    )
