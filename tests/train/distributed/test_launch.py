import json
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from safetensors.torch import load_file
from torch.utils.data import BatchSampler

from stages.core.config.launcher import Accelerate
from stages.core.errors import UserError
from stages.core.models.loading import TUNED
from stages.train.__main__ import main
from stages.train.distributed import accelerate_args, workers
from tests.conftest import ROOT, TINY, compose_config, entered, write_splits

TAKEN = Path("models/measured/tuned/42.json")
CLOSE = {
    "rtol": 1e-5,
    "atol": 1e-6,
}  # float32: sums over two processes are added up in another order
TRAINING = (
    "train=full",
    "train.args.learning_rate=1e-2",
    "train.args.logging_steps=1",
    "train.micro_batch_tokens=150",
)
TWO = (*TRAINING, "train.args.per_device_train_batch_size=4")

LAUNCH = """
from pathlib import Path
from stages.core.config.launcher import Accelerate
from stages.train.distributed import accelerate_args, workers

accelerate_args.MODULE = "tests.train.distributed.workers.fails"
workers.write_values({{}}, Path("folder-of-another"))
launcher = Accelerate(kind="accelerate", num_processes={processes}, config_file=None, args={args})
workers.run_workers(launcher, Path("folder-of-another"), ())
"""


def outcome():
    """Weights, curve of the losses and headline numbers of what was just trained."""
    curve = json.loads(Path("plots/train.json").read_text())
    numbers = json.loads(Path("metrics/train.json").read_text())
    return load_file(TUNED / "model.safetensors"), [row["loss"] for row in curve], numbers


def same(found, expected):
    (weights, losses, numbers) = found
    (other_weights, other_losses, other_numbers) = expected
    assert all(
        torch.allclose(weights[name], other_weights[name], **CLOSE) for name in other_weights
    )
    assert losses == pytest.approx(other_losses, rel=1e-5)
    for name in (
        "steps",
        "tokens",
        "train_loss",
        "eval_loss_before_training",
        "eval_loss",
        "trained_parameters",
    ):
        assert numbers[name] == pytest.approx(other_numbers[name], rel=1e-5), name


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The outcome of one process with the same global batch."""
    with entered(tmp_path_factory.mktemp("alone")):
        write_splits()
        main(
            compose_config(
                *TINY, *TRAINING, "tracking=disabled", "train.args.per_device_train_batch_size=8"
            )
        )
        return outcome()


@pytest.mark.parametrize("launcher", ["ddp", "fsdp"])
def test_two_processes_train_what_one_trains_also_when_killed(
    alone, prepared, monkeypatch, capfd, launcher
):
    monkeypatch.setattr(accelerate_args, "MODULE", "tests.train.distributed.workers.trains")
    # The worker makes accelerate shard without GPUs.
    monkeypatch.setattr(accelerate_args, "SHARDED", {})
    options = (
        *TINY,
        *TWO,
        f"train/launcher={launcher}",
        "tracking=disabled",
        "train.checkpoint_minutes=0",
    )
    monkeypatch.setenv("KILLED_AT", "4")
    with pytest.raises(SystemExit, match="training process 1 was killed by SIGKILL"):
        main(compose_config(*options))
    assert not TUNED.exists() and not Path("metrics").exists()
    monkeypatch.delenv("KILLED_AT")
    capfd.readouterr()
    main(compose_config(*options))
    same(outcome(), alone)
    assert json.loads(TAKEN.read_text())["resumed_at_steps"] == [4]
    assert Path("sharded").exists() == (launcher == "fsdp")
    assert not list(TUNED.parent.glob(".tuned*")) and not list(
        Path(".tuneproof").rglob("checkpoint-*")
    )
    said = capfd.readouterr().err
    assert (
        said.count("Resuming at step 4") == 1
        and "Traceback" not in said
        and "Warning: " not in said
    )


ADAPTER = "++train.adapter={{r: 4, target_modules: all-linear, init_lora_weights: {}}}"


@pytest.mark.parametrize("kind", ["eva", "corda"])
def test_two_processes_begin_with_the_adapter_with_which_one_begins(prepared, kind):
    found = []
    for launcher, rows in (("single", 8), ("ddp", 4)):
        main(
            compose_config(
                *TINY,
                f"train/launcher={launcher}",
                ADAPTER.format(kind),
                f"train.args.per_device_train_batch_size={rows}",
                "train.args.max_steps=2",
                "tracking=disabled",
            )
        )
        facts = json.loads((TUNED / "training.json").read_text())["initial_adapter"]
        settings = json.loads((TUNED / "adapter_config.json").read_text())
        found.append((facts, settings, load_file(TUNED / "adapter_model.safetensors")))
    (facts, settings, weights), (other_facts, other_settings, other_weights) = found
    assert facts == other_facts
    assert settings == other_settings
    assert all(torch.allclose(w, other_weights[name], **CLOSE) for name, w in weights.items())


@pytest.mark.parametrize("launcher", ["fsdp", "deepspeed", "ddp train.launcher.args=[--use-fsdp]"])
def test_initial_values_need_whole_weights(prepared, launcher):
    overrides = f"train/launcher={launcher}".split()
    with pytest.raises(SystemExit, match="eva is computed from whole weights"):
        main(compose_config(*TINY, "tracking=disabled", ADAPTER.format("eva"), *overrides))


def test_the_first_worker_logs_to_the_runs_of_the_process_that_launched_it(workspace, monkeypatch):
    monkeypatch.setattr(accelerate_args, "MODULE", "tests.train.distributed.workers.fails")
    monkeypatch.setenv("ENDS", "tracked")
    main(compose_config(*TINY, "train/launcher=ddp"))
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    runs = client.search_runs(
        [e.experiment_id for e in client.search_experiments() if e.name == "tuneproof"]
    )
    found = {
        run.data.tags.get("tuneproof.stage", "parent"): (run.info.status, run.data.metrics)
        for run in runs
    }
    assert found == {"parent": ("FINISHED", {}), "train": ("FINISHED", {"loss": 0, "rank": 0})}
    assert len(runs) == len(found) and json.loads(Path("metrics/train.json").read_text()) == {
        "rank": 0
    }


def test_processes_deal_the_rows_of_a_step_out_and_fill_the_last_one_up():
    def steps(rows, size, processes):
        batches = BatchSampler(range(rows), size, drop_last=False)
        parts = [BatchSamplerShard(batches, processes, rank) for rank in range(processes)]
        return [list(chain(*step)) for step in zip(*parts, strict=True)]

    assert steps(16, 4, 2) == steps(16, 8, 1) == [list(range(8)), list(range(8, 16))]
    assert steps(10, 4, 2) == [list(range(8)), [8, 9, 0, 1, 2, 3, 4, 5]]


@pytest.fixture
def run(workspace, monkeypatch):
    """Run the workers that fail, in a folder."""
    monkeypatch.setattr(accelerate_args, "MODULE", "tests.train.distributed.workers.fails")

    def with_end(ends, processes=2, args=()):
        monkeypatch.setenv("ENDS", ends)
        launcher = Accelerate(
            kind="accelerate", num_processes=processes, config_file=None, args=list(args)
        )
        workers.write_values({}, workspace / "run")
        workers.run_workers(launcher, workspace / "run", ())

    return with_end


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("mistake", "the loss is nan at step 7"),
        ("defect", "training process 1: this is a defect of Tuneproof"),
        (
            "killed",
            "training process 1 was killed by SIGKILL (did the machine run out of memory?); "
            "the launcher stopped the other",
        ),
    ],
)
def test_a_worker_that_fails_ends_the_others_and_is_one_message(run, capfd, ends, said):
    before = signal.getsignal(signal.SIGTERM), dict(os.environ) | {"ENDS": ends}
    with pytest.raises(UserError) as error:
        run(ends)
    assert str(error.value).startswith(said)
    assert not is_alive(int(Path("pid0").read_text()))
    shown = capfd.readouterr().err
    assert "Traceback" not in shown and "elastic" not in shown
    logs = [path.read_text() for path in Path(".tuneproof/logs").glob("train-*.log")]
    assert [log.count("RuntimeError: broken") for log in logs] == [1] * (ends == "defect")
    assert (signal.getsignal(signal.SIGTERM), dict(os.environ)) == before


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_that_launched_them(workspace, number):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ENDS": "never"}
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH.format(processes=2, args=[])], env=environment
    )
    pids = [Path("pid0"), Path("pid1")]
    wait_for(lambda: all(path.exists() and path.read_text() for path in pids))
    process.send_signal(number)
    status = process.wait(120)
    assert status == {signal.SIGTERM: 128 + 15, signal.SIGINT: -2, signal.SIGKILL: -9}[number]
    wait_for(lambda: not any(is_alive(int(path.read_text())) for path in pids))


def wait_for(condition, seconds=300.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_launchers_on_two_machines_find_each_other_by_accelerates_own_flags(run, workspace):
    port = free_port()
    flags = [
        f"--num_machines=2 --machine_rank={rank} --main_process_ip=127.0.0.1 --main_process_port={port}".split()
        for rank in (0, 1)
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ENDS": "well"}
    code = LAUNCH.format(processes=1, args=flags[1])
    with subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=workspace) as second:
        run("well", 1, flags[0])
        assert second.wait(300) == 0
    assert [Path(f"pid{rank}").exists() for rank in (0, 1, 2)] == [True, True, False]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("option", ["ddp", "fsdp", "deepspeed", "slurm"])
def test_accelerate_takes_the_file_of_every_launcher(config, tmp_path, monkeypatch, option):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    launcher = config(f"train/launcher={option}").train.launcher
    found = accelerate_args.get_flags(
        launcher, tmp_path, accelerate_args.Node(1, 2, "first", 29500)
    )
    assert found.num_processes == 2 * launcher.num_processes and found.machine_rank == 1
    from accelerate.commands.launch import _validate_launch_command

    checked, _, _ = _validate_launch_command(found)
    assert (checked.use_fsdp, checked.use_deepspeed) == (
        option in {"fsdp", "slurm"},
        option == "deepspeed",
    )
    assert checked.fsdp_version == 2 or option not in {"fsdp", "slurm"}
    assert checked.zero_stage == 3 or option != "deepspeed"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train/launcher=fsdp", "train.launcher: FSDP needs GPUs"),
        (
            "train.launcher.config_file=missing.yaml",
            "train.launcher.config_file: missing.yaml not found",
        ),
        (
            "train.launcher.config_file=rows.yaml",
            "train.launcher.config_file: accelerate rejects this file",
        ),
        (
            'train.launcher.args=["--num_machine=2"]',
            "train.launcher.args: `accelerate launch` rejects",
        ),
        ("train.launcher.num_processes=0", "train.launcher.num_processes"),
    ],
)
def test_what_the_launcher_does_not_take_is_named(prepared, override, said):
    Path("rows.yaml").write_text("distributed_type: MULTI_GPU\nrows: 3\n")
    with pytest.raises(SystemExit) as stop:
        main(compose_config(*TINY, "train/launcher=ddp", "tracking=disabled", override))
    assert said in str(stop.value)
