"""The comparison of training speeds runs on the tiny model, so that a change of TRL is noticed."""

import json
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from benchmarks import contenders, others, train
from benchmarks.contenders import OURS, TRL, measure
from benchmarks.others import WARM_STEPS, get_warm_seconds
from tests.conftest import TINY, compose_config

ROWS = 16
FAST = ("tracking=disabled", "train=lora", "train.args.per_device_train_batch_size=4")
RATE = ("train.args.learning_rate=1e-2", "train.args.warmup_steps=0")


@pytest.fixture
def params(prepared, monkeypatch):
    """A folder with rows and the configuration of the tiny model."""
    OmegaConf.save(compose_config(*TINY, *FAST, *RATE), "params.yaml")
    monkeypatch.setattr(train, "matrix_product_speed", lambda runs: 1e9)


def test_our_trainer_and_trls_learn_the_same_rows(params):
    ours, theirs = [train.compete(name, ROWS) for name in (OURS, TRL[0])]
    assert ours["loss before"] == theirs["loss before"]
    for found in (ours, theirs):
        assert found["loss after"] < 0.99 * found["loss before"]
        assert found["tokens/s"] > 0 and found["peak GB"] > 0 and found["of products"] > 0
        assert found["first step s"] > 0
    assert ours["loss after"] == pytest.approx(theirs["loss after"], rel=0.02)


def test_on_a_gpu_another_trainer_warms_up_and_the_whole_run_is_timed(monkeypatch):
    monkeypatch.setattr(contenders, "has_gpu", lambda: True)
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    made = []
    trained = []

    def make():
        args = SimpleNamespace(max_steps=-1)
        made.append(SimpleNamespace(args=args, model=len(made), add_callback=lambda clock: None))
        return made[-1]

    found = measure(make, lambda trainer: trained.append(trainer.args.max_steps))
    assert trained == [WARM_STEPS, -1]
    assert found.model == 1 and found.seconds > 0


def test_the_first_steps_of_another_product_do_not_count():
    slow = [50.0] * WARM_STEPS
    ends = [*slow, 51.0, 53.0]  # the last step has twice the tokens
    tokens = [10 * (n + 1) for n in range(WARM_STEPS)]
    tokens += [tokens[-1] + 10, tokens[-1] + 30]
    assert get_warm_seconds(ends, tokens) == pytest.approx(tokens[-1] / 10)
    with pytest.raises(ValueError, match="steps are too few"):
        get_warm_seconds(slow, tokens)


def test_unsloth_is_timed_after_its_first_steps(params, base, config, tmp_path, monkeypatch):
    from stages.core.data.records import read_records
    from stages.core.models.loading import get_tokenizer

    def work(task, *command):
        rows = json.loads((task.folder / "task.json").read_text())["rows"]
        assert len(rows) == ROWS
        ends = [60.0, 61.0, 62.0, 63.0]
        found = {"step_ends": ends, "peak_bytes": 2e9}
        (task.folder / "found.json").write_text(json.dumps(found))

    monkeypatch.setattr(others, "run", work)
    monkeypatch.setattr(others, "make_environment", lambda product: "python")
    monkeypatch.setattr(others, "load_adapter", lambda task, folder: "model")
    records = read_records("train")[:ROWS]
    task = others.Task(config(*FAST), base, get_tokenizer(base), records, tmp_path)
    found = others.train_unsloth(task)
    assert 3 < found.seconds < 5  # four steps of about a second each
    assert found.peak_bytes == 2e9 and found.facts == {"first step s": 60.0}
