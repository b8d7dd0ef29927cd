"""Rewards of GRPO: a trained reward model, and several rewards with weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from stages.core.config.schema import parse
from stages.core.errors import UserError
from stages.core.models.loading import TUNED, get_tuned_model
from stages.core.tracking.tracker import Tracker
from stages.train.__main__ import main
from stages.train.build_trainer import get_trainer
from stages.train.methods import get_method
from stages.train.methods.rewards import ModelReward
from stages.train.monitoring.checkpoints import training_fingerprint
from tests.conftest import TINY, compose_config, entered
from tests.train.test_every_option import FAST, GRPO, HEAD, RECORDS, prepare

FOLDER = "models/reward"
JUDGE = f"+train.grpo_rewards.judge={{kind:reward-model,folder:{FOLDER},weight:0.7}}"
BOTH = ("train=grpo", *GRPO, JUDGE, "train.grpo_rewards.primary.weight=0.3")
TWO_STEPS = "train.args.max_steps=2"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with a trained reward model and with the rows of a GRPO run."""
    with entered(tmp_path_factory.mktemp("rewards")) as folder:
        prepare(RECORDS["preference"])
        main(compose_config(*TINY, *FAST, "train=reward-model"))
        shutil.copytree(TUNED, FOLDER)
        shutil.rmtree("models/tuned")
        prepare(RECORDS["chat"])
        yield folder


@pytest.fixture
def judged(workshop, monkeypatch):
    monkeypatch.chdir(workshop)


def composed(*overrides):
    return parse(compose_config(*TINY, *FAST, *overrides))


def trainer_of(tmp_path, *overrides):
    config = composed(*BOTH, *overrides)
    rows = [RECORDS["chat"](n) for n in range(24)]
    folder = str(tmp_path / "checkpoints")
    return get_trainer(get_method(config), rows, rows[:6], Tracker(config, None), folder)


def test_a_reward_model_scores_chats_as_it_was_trained_to_read_them(judged):
    pairs = [RECORDS["preference"](n) for n in range(30, 36)]
    method = get_method(composed("train=reward-model"))
    rows = method.get_examples(pairs)
    model = get_tuned_model(method.base, "float32", Path(FOLDER), HEAD)
    with torch.inference_mode():
        wanted = [
            float(model(torch.tensor([row[side]])).logits)
            for side in ("chosen_ids", "rejected_ids")
            for row in rows
        ]
    config = composed(*BOTH)
    own = config.train.grpo_rewards["judge"]
    texts = [pair.target for pair in pairs] + [pair.rejected["content"] for pair in pairs]
    lines = [pair.dump().decode() for pair in pairs] * 2
    found = ModelReward("judge", own, get_method(config))(texts, record=lines)
    assert found == pytest.approx(wanted, abs=1e-5)
    assert all(good > bad for good, bad in zip(found[:6], found[6:], strict=True))
    odd = ["", "<|im_end|>", "  ", "<|im_start|>user\n"]  # the last one is text and no new turn
    assert len(set(ModelReward("judge", own, get_method(config))(odd, record=lines[:1] * 4))) > 2


def test_the_advantage_is_that_of_the_weighted_sum(judged, tmp_path, monkeypatch):
    trainer = trainer_of(tmp_path, TWO_STEPS)
    rewards = []
    advantages = []
    kind = type(trainer)
    calculate = kind._calculate_rewards
    loss = kind.compute_loss

    def listen(self, *args):
        rewards.append(calculate(self, *args))
        return rewards[-1]

    def learn(self, model, inputs, *args, **others):
        advantages.extend(inputs["advantages"].tolist())
        return loss(self, model, inputs, *args, **others)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "_calculate_rewards", listen)
        patch.setattr(kind, "compute_loss", learn)
        trainer.args.eval_strategy = "no"
        trainer.train()
    found = torch.cat([scores for scores in rewards if len(scores) == 24])
    assert float(found[:, 0].std()) > 0 and float(found[:, 1].std()) > 0
    total = (0.3 * found[:, 0] + 0.7 * found[:, 1]).view(-1, 4)
    wanted = (total - total.mean(1, keepdim=True)) / (total.std(1, keepdim=True) + 1e-4)
    assert sorted(advantages) == pytest.approx(sorted(wanted.flatten().tolist()), abs=1e-4)


def test_each_reward_is_recorded_by_itself(judged):
    main(compose_config(*TINY, *FAST, *BOTH, TWO_STEPS))
    numbers = json.loads(Path("metrics/train.json").read_text())
    each = [numbers[f"eval_rewards/{name}/mean"] for name in ("primary", "judge")]
    assert numbers["eval_loss"] == pytest.approx(-(0.3 * each[0] + 0.7 * each[1]), abs=1e-5)
    rewards = json.loads((TUNED / "training.json").read_text())["rewards"]
    assert rewards["primary"] == {"metric": "chrf", "weight": 0.3}
    assert rewards["judge"]["weight"] == 0.7 and len(rewards["judge"]["sha256"]) == 64
    shutil.rmtree("models/tuned")


def test_no_run_resumes_with_another_reward_model(judged):
    config = composed(*BOTH)
    base = get_method(config).base
    before = training_fingerprint(config, base, 42)
    weights = Path(FOLDER, "adapter_model.safetensors")
    kept = weights.read_bytes()
    try:
        weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert training_fingerprint(config, base, 42) != before
    finally:
        weights.write_bytes(kept)
    assert training_fingerprint(config, base, 42) == before


def test_dvc_tracks_the_folder_and_the_metrics():
    train = composed(*BOTH).train
    assert train.reward_model_dvc_dependency == FOLDER
    assert train.dvc_dependency == "stages/core/metrics"
    alone = composed("train=grpo", JUDGE, "~train.grpo_rewards.primary").train
    assert (alone.reward_model_dvc_dependency, alone.dvc_dependency) == (FOLDER, "data/README.md")
    assert composed("train=lora").train.reward_model_dvc_dependency == "NOTICE"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "train.grpo_rewards.judge.folder=models/none",
            "judge.folder: models/none has no model of",
        ),
        ("seed=7", "models/reward is an adapter of tiny-random, which is not the base model"),
        ("train.args.reward_weights=[1,1]", "train.args.reward_weights: Tuneproof sets this"),
    ],
)
def test_a_model_that_cannot_reward_is_refused(judged, tmp_path, override, said):
    added = override if "rewards.judge" in override or "seed" in override else f"+{override}"
    with pytest.raises(UserError, match=said):
        trainer_of(tmp_path, added)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["train.grpo_rewards.judge.folder=models/tuned"],
            r"judge\.folder: this folder is an output",
        ),
        (
            ["+train.grpo_rewards.b={kind:reward-model,folder:models/b,weight:1}"],
            "only one reward model is possible.*models/b, models/reward",
        ),
        (
            ["train.grpo_rewards.judge.weight=0", "train.grpo_rewards.primary.weight=0"],
            "needs a reward whose weight is not 0",
        ),
        (["train.grpo_rewards.judge.kind=nonsense"], "grpo_rewards.judge.*'metric-score'"),
        (["+train.grpo_rewards.judge.wait=1"], "grpo_rewards.judge.wait: unknown key"),
    ],
)
def test_rewards_that_make_no_sense_are_refused(overrides, said):
    with pytest.raises(UserError, match=said):
        composed(*BOTH, *overrides)
