"""A killed run goes on where it was, and nothing goes on from what is not its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from stages.core.models.loading import TUNED
from stages.train import initial_values
from stages.train.__main__ import main
from stages.train.monitoring.checkpoints import COMPLETE_MARKER, FOLDER, latest_checkpoint
from stages.train.monitoring.training_progress import TrainingProgress
from stages.train.trainers import base
from stages.train.trainers.base import EpochOrder
from tests.conftest import ROOT, TINY, compose_config, entered, write_splits

TAKEN = Path("models/measured/tuned/42.json")
SMALL = (
    *TINY,
    "tracking=disabled",
    "train.args.learning_rate=1e-2",
    "train.args.per_device_train_batch_size=4",
    "train.args.num_train_epochs=3",
    "train.args.logging_steps=1",
    "train.checkpoint_minutes=0",
)
TIMES = ("seconds", "tokens_per_second", "peak_memory_bytes", "estimate_ratio")


class Killed(BaseException):
    """Nothing in the stage catches it, as nothing catches a signal 9."""


def stop_at(monkeypatch, step):
    """Let training die in the middle of the step after `step`."""

    whole = base.ResumableTrainerMixin.training_step

    def training_step(self, *args):
        if self.state.global_step >= step:
            raise Killed
        return whole(self, *args)

    monkeypatch.setattr(base.ResumableTrainerMixin, "training_step", training_step)


def run(*overrides):
    """Train from nothing; the weights, the headline numbers but for times, the curve."""
    shutil.rmtree("models", ignore_errors=True)
    main(compose_config(*SMALL, *overrides))
    return read()


def read():
    numbers = json.loads(Path("metrics/train.json").read_text())
    kept = {key: value for key, value in numbers.items() if key not in TIMES}
    return (
        load_file(next(TUNED.glob("*.safetensors"))),
        kept,
        json.loads(Path("plots/train.json").read_text()),
    )


def resumed():
    """The steps at which the training of the global seed went on after a kill."""
    return json.loads(TAKEN.read_text())["resumed_at_steps"]


def same(one, other):
    assert one[1:] == other[1:]
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A function that trains from beginning to end, each set of overrides once; it gives what `read` gives."""

    @cache
    def train(*overrides):
        with entered(tmp_path_factory.mktemp("uninterrupted")):
            write_splits()
            main(compose_config(*SMALL, *overrides))
            return read()

    return train


@pytest.mark.parametrize(
    ("option", "step"),
    [
        ("lora", 1),
        ("lora", 8),
        ("lora", 12),
        ("full", 8),
    ],  # in the first epoch of six steps, in the second, at its end
)
def test_a_killed_run_ends_with_the_very_weights_and_numbers(
    prepared, monkeypatch, uninterrupted, option, step
):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, step)
        run(f"train={option}")
    assert not TUNED.exists()
    main(compose_config(*SMALL, f"train={option}"))
    same(uninterrupted(f"train={option}"), read())
    assert resumed() == [step]
    assert not list(FOLDER.glob("*/checkpoint-*"))  # what is finished needs no checkpoints


@pytest.mark.parametrize("kind", ["pissa_niter_2", "eva", "corda", "lora_ga"])
def test_initial_values_are_the_same_ones_after_a_kill(prepared, monkeypatch, uninterrupted, kind):
    random = f"++train.adapter={{r: 4, target_modules: all-linear, init_lora_weights: {kind}}}"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 8)
        run(random)
    main(compose_config(*SMALL, random))
    same(uninterrupted(random), read())
    assert resumed() == [8]


def test_a_layer_without_an_adapter_has_none_after_a_kill(prepared, monkeypatch):
    """EVA gives no rank to a layer whose inputs vary little beside those of others."""
    eva = "++train.adapter={r: 4, target_modules: all-linear, init_lora_weights: eva}"
    whole = initial_values._compute
    computed = []

    def leave_out(*arguments):
        state = whole(*arguments)
        name = next(iter(state))
        computed.append(name.removeprefix("base_model.model."))
        return state | {name: state[name][:0]}

    monkeypatch.setattr(initial_values, "_compute", leave_out)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 8)
        run(eva)
    main(compose_config(*SMALL, eva))
    [name] = computed  # the run that resumed reads the ranks from its checkpoint
    assert resumed() == [8]
    assert name not in json.loads((TUNED / "adapter_config.json").read_text())["target_modules"]
    assert not any(name in weight for weight in read()[0])
    assert json.loads((TUNED / "training.json").read_text())["initial_adapter"]["layers"] == 13


def test_dropout_and_accumulated_batches_go_on_too(prepared, monkeypatch, uninterrupted):
    more = ("train.adapter.lora_dropout=0.3", "train.args.gradient_accumulation_steps=2")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 4)
        run(*more)
    main(compose_config(*SMALL, *more))
    same(uninterrupted(*more), read())
    assert resumed() == [4]


KILL = """
import os, runpy, signal
from stages.train.trainers import base

write = base.write_json

def write_or_die(path, value):
    if path.parent.name == "checkpoint-11":
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, value)

base.write_json = write_or_die
runpy.run_module("stages.train", run_name="__main__")
"""


def test_signal_9_in_the_middle_of_a_checkpoint(prepared, workspace, uninterrupted):
    """A process of its own, killed before it says that its eleventh checkpoint is complete."""
    (workspace / "composed.yaml").write_text(
        OmegaConf.to_yaml(compose_config(*SMALL), resolve=True)
    )
    flags = [
        "-cp",
        str(workspace),
        "-cn",
        "composed",
        "hydra.run.dir=.",
        "hydra.output_subdir=null",
    ]
    command = [sys.executable, "-c", KILL, *flags, "hydra/job_logging=none"]
    died = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    [folder] = [path for path in FOLDER.iterdir() if path.is_dir()]
    assert (
        (folder / "checkpoint-11").exists()
        and latest_checkpoint(folder).name == "checkpoint-10"
        and not TUNED.exists()
    )
    main(compose_config(*SMALL))
    assert json.loads(TAKEN.read_text())["resumed_at_steps"] == [10]
    same(uninterrupted("train=lora"), read())


def test_code_on_which_no_weight_depends_may_change_and_is_named(
    prepared, monkeypatch, capsys, uninterrupted
):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 5)
        run()
    [noted] = FOLDER.glob("*/other_code.json")
    noted.write_text(noted.read_text().replace("stages/core/errors.py", "stages/core/mistakes.py"))
    main(compose_config(*SMALL))
    assert (
        "weights should not depend on it: stages/core/errors.py, stages/core/mistakes.py."
        in capsys.readouterr().err
    )
    assert resumed() == [5]
    same(uninterrupted("train=lora"), read())


@pytest.mark.parametrize("option", ["lora", "full"])
def test_a_checkpoint_holds_no_model_card(prepared, monkeypatch, option):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 1)
        run(f"train={option}")
    assert list(FOLDER.glob("*/checkpoint-1/*.safetensors")) and not list(FOLDER.rglob("README.md"))


def test_a_cut_off_checkpoint_does_not_count(tmp_path):
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / COMPLETE_MARKER).touch()
    assert latest_checkpoint(tmp_path).name == "checkpoint-10"
    (tmp_path / "checkpoint-10" / COMPLETE_MARKER).unlink()
    assert latest_checkpoint(tmp_path).name == "checkpoint-9"


@pytest.mark.parametrize(
    "change", ["seed=7", "train.args.learning_rate=2e-2", "prompt.tuned_system_prompt=Other."]
)
def test_another_configuration_begins_anew(prepared, monkeypatch, change):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 1)
        run()
    began = []

    def begin(self, *_):
        began.append(self.state.global_step)
        raise Killed

    monkeypatch.setattr(base.ResumableTrainerMixin, "training_step", begin)
    for given, step in ((change, 0), ("seed=42", 1)):
        with pytest.raises(Killed):
            main(compose_config(*SMALL, given))
        assert began.pop() == step


def test_a_finished_training_is_not_done_again(prepared, monkeypatch):
    run()
    before = {path: path.stat().st_mtime_ns for path in Path("models").rglob("*")}
    stop_at(monkeypatch, 0)
    main(
        compose_config(*SMALL, "train.checkpoint_minutes=3")
    )  # when checkpoints are made changes nothing
    assert {path: path.stat().st_mtime_ns for path in Path("models").rglob("*")} == before
    with pytest.raises(Killed):
        main(compose_config(*SMALL, "seed=7"))
    assert {
        path: path.stat().st_mtime_ns for path in Path("models").rglob("*")
    } == before  # a failed run loses nothing


def test_the_order_of_an_epoch_hangs_on_its_number_alone():
    lengths = [i % 7 for i in range(50)]
    for given in (None, lengths):
        order = EpochOrder(50, given, 8, seed=42)
        first = list(order)
        again = list(order)
        order.epoch = 1
        second = list(order)
        assert (
            first == again
            and first != second
            and sorted(first) == sorted(second) == list(range(50))
        )
    assert list(EpochOrder(50, None, 8, seed=43)) != list(EpochOrder(50, None, 8, seed=42))


def test_the_clock_stands_still_while_it_is_paused(monkeypatch):
    clock = count()  # a second passes at each look
    monkeypatch.setattr(
        "stages.train.monitoring.training_progress.time",
        SimpleNamespace(perf_counter=lambda: next(clock)),
    )
    progress = TrainingProgress([])
    with progress.paused():
        before = progress.seconds
        next(clock)
        assert progress.seconds == before == 1
    assert progress.seconds == 2
