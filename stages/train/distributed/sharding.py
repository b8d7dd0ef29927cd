"""Refuse what needs a whole model if a launcher gives each process a part of the weights."""

from collections.abc import Iterator

from stages.core.config.adapter import needs_whole_weights
from stages.core.config.launcher import Single
from stages.core.config.train import TrainConfig
from stages.core.config.train_options import Muon, RewardModel
from stages.core.errors import UserError
from stages.train.distributed.accelerate_args import get_distributed_type, shares_weights


def check_sharding(train: TrainConfig) -> None:
    """Check that everything a training needs can be sharded by its launcher.

    Raises:
        UserError: Something cannot.
    """
    if isinstance(train.launcher, Single) or not shares_weights(train.launcher):
        return
    if train.quantization is not None and get_distributed_type(train.launcher) == "DEEPSPEED":
        raise UserError(
            "train.quantization: DeepSpeed cannot share quantized weights among the processes as "
            "Tuneproof loads them. Set train/launcher=ddp, which keeps the quantized model whole "
            "on each GPU, or train/launcher=fsdp with "
            "+train.quantization.bnb_4bit_quant_storage=bfloat16, or train=lora with DeepSpeed."
        )
    for key, need, instead in _find_obstacles(train):
        raise UserError(
            f"{key} {need}, and this launcher gives each process a part of the weights. Choose "
            f"train/launcher=ddp or {instead}."
        )


def _find_obstacles(train: TrainConfig) -> Iterator[tuple[str, str, str]]:
    """Yield each key that needs a whole model, what for, and what to choose instead."""
    if train.adapter and needs_whole_weights(train.adapter):
        key = "train.adapter.init_lora_weights"
        kind = train.adapter["init_lora_weights"]
        yield f"{key}={kind}", "is computed from whole weights", f"{key}=true"
    if train.init_adapter.source is not None:
        key = "train.init_adapter.source"
        yield key, "loads an adapter into a whole model", f"{key}=null"
    if train.replay.fraction and train.replay.asks_base:
        key = "train.replay.loss"
        yield f"{key}=kl", "asks the model without its adapter", f"{key}=nll"
    if isinstance(train.optimizer, Muon):
        yield "train/optimizer=muon", "needs whole matrices", "train/optimizer=none"
    if train.teacher_model is not None:
        yield "train.teacher_model.source", "loads a whole teacher", "train=distill"
    for name, reward in train.grpo_rewards.items():
        if isinstance(reward, RewardModel):
            key = f"train.grpo_rewards.{name}"
            yield key, "loads a whole reward model", "a reward of the kind metric-score"
