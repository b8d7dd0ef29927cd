"""Which moment of training becomes the model, and when training stops early."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages.core.models.loading import TUNED
from stages.core.tracking.tracker import Tracker
from stages.train.__main__ import main
from stages.train.build_trainer import get_trainer
from stages.train.methods import get_method
from stages.train.monitoring.validation import Validation
from tests.conftest import TINY, compose_config

# A rate that makes the loss worse before it gets better, so that the last moment is not the best one.
FAST = (
    *TINY,
    "tracking=disabled",
    "train.args.per_device_train_batch_size=4",
    "train.args.logging_steps=1",
)
WILD = (
    *FAST,
    "train.args.learning_rate=1",
    "train.args.warmup_steps=0",
    "train.args.lr_scheduler_type=constant",
)


def read():
    return json.loads(Path("metrics/train.json").read_text()), json.loads(
        Path("plots/train.json").read_text()
    )


def test_the_best_moment_becomes_the_model(prepared):
    main(compose_config(*WILD, "train.args.num_train_epochs=4"))
    numbers, curve = read()
    losses = {row["step"]: row["loss"] for row in curve if row["split"] == "validation"}
    assert numbers["best_step"] == min(losses, key=losses.get) < numbers["steps"] == 24
    assert numbers["eval_loss"] == losses[numbers["best_step"]]
    best = load_file(TUNED / "adapter_model.safetensors")
    stopped = compose_config(
        *WILD, "train.args.num_train_epochs=4", "train.args.eval_strategy='no'"
    )
    (TUNED / "training.json").unlink()
    main(stopped)
    last = load_file(TUNED / "adapter_model.safetensors")
    assert read()[0]["best_step"] == 24
    assert any(not torch.equal(best[name], last[name]) for name in best)


def test_training_stops_when_nothing_gets_better(prepared):
    main(compose_config(*WILD, "train.args.num_train_epochs=30", "train.best.patience=2"))
    numbers, curve = read()
    losses = [row["loss"] for row in curve if row["split"] == "validation"]
    assert numbers["steps"] < 180 and len(losses) == losses.index(min(losses)) + 3


def test_a_metric_of_validation_answers_decides(prepared, monkeypatch):
    values = iter([0.1, 0.7, 0.7, 0.3])
    monkeypatch.setattr(Validation, "score", lambda self, trainer: {self.name: next(values)})
    main(compose_config(*FAST, "train.best.metric=exact_match", "train.args.num_train_epochs=3"))
    numbers, _ = read()  # the first value is that of the base model
    assert (
        numbers["eval_exact_match"] == 0.7 and numbers["best_step"] == 6 and numbers["steps"] == 18
    )


def test_validation_answers_are_those_of_the_tuned_arm(config, prepared, tmp_path):
    checked = config(
        "tracking=disabled",
        "train.best.metric=chrf",
        "train.best.eval_rows=4",
        "train.best.max_new_tokens=8",
    )
    method = get_method(checked)
    trainer = get_trainer(
        method, prepared["train"], prepared["validation"], Tracker(checked, None), str(tmp_path)
    )
    metrics = trainer.evaluate()
    assert set(metrics) >= {"eval_loss", "eval_chrf"} and 0 <= metrics["eval_chrf"] <= 1
    assert len(trainer.validation._records) == 4
    assert trainer.validation.score(trainer)["chrf"] == metrics["eval_chrf"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.best.metric=exact_mach", "unknown metric 'exact_mach'"),
        (
            "train.best.metric=exact_match train.method=reward-model",
            "train.best.metric: must be loss",
        ),
        (
            "train.method=grpo",
            "train.grpo_rewards: method grpo needs a reward whose weight is not 0",
        ),
        (
            "train.quantization={load_in_4bit:true} train.adapter=null",
            "train.quantization: needs an adapter",
        ),
    ],
)
def test_what_makes_no_sense_is_said_before_any_work(prepared, override, said):
    with pytest.raises(SystemExit) as stop:
        main(compose_config(*FAST, *override.split()))
    assert said in str(stop.value)
    assert not TUNED.exists()
