"""Launchers that give each process a part of the weights, and what needs all of them."""

import pytest

from stages.core.errors import UserError
from stages.core.models.candidates import get_candidate
from stages.train.distributed import launch as launching
from stages.train.distributed.accelerate_args import get_distributed_type

CHOICE = ", and this launcher gives each process a part of the weights. Choose train/launcher=ddp "
JUDGE = "+train.grpo_rewards.judge={kind:reward-model,folder:models/reward,weight:1}"
TEACHER = ["train=distill-on-policy", "train.teacher_model.source=teacher"]
NEEDY = {
    "train.adapter.init_lora_weights=pissa": ["+train.adapter.init_lora_weights=pissa"],
    "train.adapter.init_lora_weights=eva": ["+train.adapter.init_lora_weights=eva"],
    "train.init_adapter.source": ["train.init_adapter.source=models/start"],
    "train.replay.loss=kl": ["train.replay.fraction=0.1"],
    "train/optimizer=muon": ["train/optimizer=muon"],
    "train.teacher_model.source": TEACHER,
    "train.grpo_rewards.judge": ["train=grpo", JUDGE],
}


@pytest.fixture
def launch(config, monkeypatch):
    """Launch a training with some overrides, without any process."""
    started = []
    monkeypatch.setattr(launching, "run_workers", lambda *_: started.append(1))

    def run(*overrides):
        launching.launch(get_candidate(config(*overrides), "tuned"), 42)
        return len(started)

    return run


@pytest.mark.parametrize("key", NEEDY)
def test_what_needs_a_whole_model_is_refused_before_any_process_starts(launch, key):
    for overrides in (
        ["train/launcher=fsdp"],
        ["train/launcher=deepspeed"],
        ["train/launcher=ddp", "train.launcher.args=[--use-fsdp]"],
    ):
        with pytest.raises(UserError) as refused:
            launch(*NEEDY[key], *overrides)
        assert str(refused.value).startswith(f"{key} ")
        assert CHOICE in str(refused.value)
    assert launch(*NEEDY[key], "train/launcher=ddp") == 1


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("+train.adapter.init_lora_weights=gaussian",),
        ("train.replay.fraction=0.1", "train.replay.loss=nll"),
        ("train=grpo",),
        ("train/optimizer=loraplus",),
    ],
)
def test_the_rest_can_be_sharded(launch, overrides):
    assert launch(*overrides, "train/launcher=fsdp") == 1


@pytest.mark.parametrize(
    ("launcher", "kind"),
    [
        (["train/launcher=ddp"], "MULTI_GPU"),
        (["train/launcher=ddp", "train.launcher.args=[--use_deepspeed]"], "DEEPSPEED"),
        (["train/launcher=ddp", "train.launcher.args=[--use-deepspeed]"], "DEEPSPEED"),
        (["train/launcher=fsdp"], "FSDP"),
        (["train/launcher=deepspeed"], "DEEPSPEED"),
    ],
)
def test_flags_choose_before_their_file(config, launcher, kind):
    assert get_distributed_type(config(*launcher).train.launcher) == kind


def test_quantized_weights_are_not_for_deepspeed(launch):
    with pytest.raises(UserError, match="DeepSpeed cannot share quantized weights"):
        launch("train=qlora", "train/launcher=ddp", "train.launcher.args=[--use-deepspeed]")
    assert launch("train=qlora", "train/launcher=fsdp") == 1
