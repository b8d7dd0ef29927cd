"""The pipeline as a user runs it: real DVC, in a temporary repository, on the tiny model and the example rows."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.core.tracking import STAGES
from tests.conftest import ROOT

pytestmark = pytest.mark.pipeline
QUICK = (
    "conf/experiment/smoke.yaml",
    # Registering is exercised too: any verdict opens the gate of the copy.
    "register: { gate: { verdict: null, min_primary_metric: 0.0, purpose: one-task } }\n",
)

MINE = """# A person's own file of rivals: a classifier, and every weight of the base model.
defaults:
  - /train@classifier: classify
  - /encoder@classifier: tiny-random
  - /launcher@classifier.launcher: single
  - /train@whole: full
  - /launcher@whole.launcher: single
classifier: { args: { num_train_epochs: 1 } }
whole: { args: { max_steps: 2, logging_steps: 1, warmup_steps: 0 } }
"""


@pytest.fixture(scope="module")
def environment():
    names = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        names |= {f"{name}_NAME": "Test", f"{name}_EMAIL": "test@example.org"}
    return names


@pytest.fixture(scope="module")
def run(environment, tmp_path_factory):
    """A function that runs a command in a fresh repository with the files of the working tree."""
    folder = tmp_path_factory.mktemp("clone") / "tuneproof"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).exists() and not name.startswith("data/test_looks/"):  # the looks at the default's own rows
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    with (folder / QUICK[0]).open("a") as preset:
        preset.write(QUICK[1])

    def execute(*command, fails=False, **more):
        done = subprocess.run(
            command, cwd=folder, env={**environment, **more}, capture_output=True, text=True, timeout=1800, check=False
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    execute("git", "init", "-q", "-b", "main")
    execute("git", "add", "-A")
    execute("git", "commit", "-q", "-m", "The working tree")
    execute("dvc", "exp", "run", "-n", "first", "-S", "experiment=smoke")
    execute.folder = folder
    return execute


def runs(folder):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("tuneproof").experiment_id])
    return {run.info.run_name: run for run in found if "mlflow.parentRunId" not in run.data.tags}


def looks(folder):
    return {path.name: path.read_bytes() for path in (folder / "data/test_looks").glob("*/*.json")}


def test_everything_is_there_and_one_mlflow_run_carries_it(run):
    for path in ("reports/verdict.html", "reports/verdict.md", "models/tuned/training.json", "plots/arms.json"):
        assert (run.folder / path).stat().st_size > 100, path
    assert json.loads((run.folder / "metrics/register.json").read_text())["registered"] is True
    parent = runs(run.folder)["first"]
    assert parent.info.status == "FINISHED"
    stages = ("prepare.", "baseline.", "train.", "evaluate.", "register.")
    assert all(any(key.startswith(stage) for key in parent.data.metrics) for stage in stages)
    assert len(looks(run.folder)) == 1 and parent.data.metrics["evaluate.test_looks"] == 1
    assert not (run.folder / "outputs").exists() and not list(run.folder.glob("*.log"))


def test_a_second_repro_does_nothing(run):
    said = run("dvc", "repro")
    assert "Data and pipelines are up to date" in said and "Running stage" not in said


def test_show_prints_the_verdict_and_adds_no_row(run):
    before = set(runs(run.folder))
    said = run(sys.executable, "-m", "tools.show")
    assert set(runs(run.folder)) == before
    assert "Verdict:" in said and "tuned - few_shot" in said and "verdict.html" in said


def test_the_learning_curve_trains_on_parts_and_gets_into_the_report(run):
    before = run("git", "status", "--short")
    said = " ".join(run(sys.executable, "-m", "tools.curve", "0.5", "1").split())  # lines break where they like
    assert "doubling the rows should add about" in said and "2 points, 2 seeds each" in said
    assert "Running stage 'baseline'" not in said
    assert said.count("Running stage 'train'") == 2
    # A share that was trained already comes from the cache, and nothing of the workspace but the file has changed.
    assert "Running stage 'train'" not in run(sys.executable, "-m", "tools.curve", "0.5", "1")
    assert set(run("git", "status", "--short").splitlines()) - set(before.splitlines()) == {
        " M data/learning_curve.json"
    }
    said = run("dvc", "repro")
    assert "Running stage 'evaluate'" in said and "Running stage 'train'" not in said
    curve = json.loads((run.folder / "reports/verdict.json").read_text())["curve"]
    assert [(point["share"], len(point["seeds"])) for point in curve["points"]] == [(0.5, 2), (1.0, 2)]
    assert json.loads((run.folder / "data/learning_curve.json").read_text())["same_for_all"] == {"max_steps": 4}
    assert curve["sentence"] in (run.folder / "reports/verdict.html").read_text()
    assert "above 0 and up to 1" in run(sys.executable, "-m", "tools.curve", "0.5", "2", fails=True)


def test_an_edit_in_conf_does_not_run_with_old_values(run):
    path = run.folder / "conf/evaluate/text.yaml"
    text = path.read_text()
    path.write_text(text.replace("margin: 0.02", "margin: 0.03"))
    said = run("dvc", "repro", fails=True)
    assert "conf/ has changed since params.yaml was composed" in said and "Running stage 'prepare'" not in said
    path.write_text(text)
    assert "Running stage 'prepare'" not in run("dvc", "repro")


def test_only_what_a_change_concerns_runs_again(run):
    said = run("dvc", "exp", "run", "-n", "slower", "-S", "experiment=smoke", "-S", "train.args.learning_rate=1e-4")
    ran = {stage for stage in STAGES if f"Running stage '{stage}'" in said}
    assert ran == {"train", "evaluate", "register"}
    parent = runs(run.folder)["slower"]
    assert parent.data.params["train.args.learning_rate"] == "0.0001"
    assert "baseline.few_shot.prompt_tokens" in parent.data.metrics, "also what came from the cache"


def test_rivals_are_stages_of_their_own_and_everything_can_be_repeated(run):
    (run.folder / "conf/rivals/mine.yaml").write_text(MINE)
    options = ["-S", "experiment=smoke", "-S", "rivals=mine", "-S", "train.seeds=[43]"]
    run("dvc", "exp", "run", "-n", "rivals", *options)
    names = set(json.loads((run.folder / "reports/verdict.json").read_text())["arms"])
    assert {"tuned", "classifier", "whole"} <= names
    assert (run.folder / "predictions/seeds/tuned/43.jsonl").exists()
    assert "rivals/whole.steps" in runs(run.folder)["rivals"].data.metrics
    assert "Data and pipelines are up to date" in run("dvc", "repro")
    said = run("dvc", "exp", "run", *options, "-S", "rivals.whole.args.learning_rate=1e-4")
    assert [line for line in said.splitlines() if "Running stage" in line] == [
        f"Running stage '{stage}':" for stage in ("rivals@whole", "evaluate", "register")
    ]
    said = run(sys.executable, "-m", "tools.repeat", "rivals")
    assert "models/rivals/whole/model.safetensors" in said and " are the same." in said and "different" not in said
    (run.folder / "predictions/tuned.jsonl").write_text('{"text": "something else"}\n')
    said = run(sys.executable, "-m", "tools.repeat", fails=True)
    assert said.count("different") == 1 and "What may differ on this machine: Nothing" in said
    run("git", "checkout", "-q", "--", ".")
    (run.folder / "conf/rivals/mine.yaml").unlink()
    run("dvc", "exp", "run", "-S", "experiment=smoke")
    assert not list((run.folder / "models/rivals").iterdir())
    assert "Data and pipelines are up to date" in run("dvc", "repro")


def test_a_bad_value_stops_before_any_work(run):
    said = run("dvc", "exp", "run", "-S", "experiment=smoke", "-S", "train.micro_batch_tokens=none", fails=True)
    assert "train.micro_batch_tokens: should be a valid integer" in said and "Traceback" not in said


def test_a_queued_sweep_runs_in_copies_and_shares_the_store_and_the_ledger(run, environment):
    before = looks(run.folder)
    run("dvc", "exp", "run", "--queue", "-S", "experiment=smoke", "-S", "train.args.learning_rate=2e-4,3e-4")
    # Not waited for: a worker may miss DVC's signal to end, once the queue is empty, and would hold the command's pipe.
    start, silent = ["dvc", "queue", "start", "-j", "2"], subprocess.DEVNULL
    workers = subprocess.Popen(start, cwd=run.folder, env=environment, stdout=silent, stderr=silent)
    until = time.monotonic() + 1800
    while (said := run("dvc", "queue", "status")).count("Success") < 2:
        assert time.monotonic() < until and "Failed" not in said, said
        time.sleep(3)
    run("dvc", "queue", "stop")
    workers.kill()
    workers.wait()
    parents = {parent.data.params["train.args.learning_rate"]: parent for parent in runs(run.folder).values()}
    for rate in ("0.0002", "0.0003"):
        assert {"baseline.few_shot.prompt_tokens", "evaluate.tuned.exact_match"} <= set(parents[rate].data.metrics)
    table = run("dvc", "exp", "show", "--csv")
    assert "train.args.learning_rate" in table and "0.0003" in table
    # Both models are two looks at the test rows more, and no experiment that is applied takes a look back.
    after = looks(run.folder)
    assert after.items() > before.items() and len(after) == len(before) + 2
    run("dvc", "exp", "apply", "first")
    assert looks(run.folder) == after


def test_a_server_that_is_away_is_a_warning(run):
    said = run(
        "dvc", "exp", "run", "-S", "experiment=smoke", "-S", "seed=7", "-S", "tracking=server",
        "-S", "tracking.uri=http://127.0.0.1:9", "-S", "tracking.timeout=1", "prepare",
    )  # fmt: skip
    assert "does not answer" in said and "Traceback" not in said


def test_a_killed_train_starts_clean(run, environment):
    run("git", "checkout", "-q", "--", ".")
    command = ["dvc", "exp", "run", "-S", "experiment=smoke", "-S", "train.args.max_steps=5000", "train"]
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
    said = run("dvc", "exp", "run", "-S", "experiment=smoke", "-S", "train.args.max_steps=3", "train")
    assert "Running stage 'train'" in said and json.loads(training.read_text())["numbers"]["steps"] == 3
