"""The guard against divergence compares only losses of one kind and scale."""

from pathlib import Path

import pytest

from stages.core.data.records import PREPARED
from stages.core.errors import UserError
from stages.core.storage.files import read_json, write_jsonl
from stages.train.__main__ import main
from stages.train.methods import rewards
from tests.conftest import TINY, compose_config
from tests.train.methods.test_grpo import ROWS, trainer_of
from tests.train.test_every_option import FAST, GRPO
from tests.train.test_train import trainer_of as answers_trainer


def test_a_large_mean_reward_does_not_end_a_healthy_run(workspace, monkeypatch):
    for split in ("train", "validation", "test"):
        write_jsonl(PREPARED / f"{split}.jsonl", ROWS if split == "train" else ROWS[:6])
    monkeypatch.setattr(
        rewards.MetricReward,
        "__call__",
        lambda self, completions, **_: [9.0 + len(c) for c in completions],
    )
    # In bfloat16, which is what most machines train in. Answers are then drawn in it too.
    more = ("train.args.max_steps=2", "model.dtype=bfloat16")
    main(compose_config(*TINY, *FAST, "train=grpo", *GRPO, *more))
    assert read_json(Path("metrics/train.json"))["steps"] == 2


@pytest.mark.parametrize(
    ("scale", "limit"), [("group", 2 * 3**0.5), ("batch", 2 * 23**0.5), ("none", None)]
)
def test_the_limit_of_grpo_follows_from_the_largest_advantage(config, tmp_path, scale, limit):
    trainer = trainer_of(config, tmp_path, f"+train.args.scale_rewards={scale}")
    guard = trainer.progress.divergence_guard
    assert guard.largest_rise == (None if limit is None else pytest.approx(max(3, limit)))
    trainer.evaluate()
    for step in range(1, 60):  # a loss in the scale of rewards of some hundreds
        guard.look(100.0 * (step > 30) * (limit is None), step, 1e-3, [0])
    if limit is not None:
        with pytest.raises(UserError, match="training diverges"):
            for step in range(60, 120):
                guard.look(2 * limit, step, 1e-3, [0])
    with pytest.raises(UserError, match="the loss is nan"):
        guard.look(float("nan"), 120, 1e-3, [0])


def test_a_smoothed_loss_is_not_held_against_a_plain_one(config, prepared, tmp_path):
    smoothed = "+train.args.label_smoothing_factor=0.5"
    trainer, *_ = answers_trainer(config, prepared, tmp_path, smoothed, "train.attention=sdpa")
    trainer.evaluate()
    guard = trainer.progress.divergence_guard
    for step in range(1, 40):
        guard.look(12.0, step, 1e-3, [0])
    assert guard.dump()["seen"] == 39
