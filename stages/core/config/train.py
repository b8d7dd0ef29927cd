"""The section of the configuration for training."""

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, model_validator

from stages.core.config.adapter import check_adapter, check_start
from stages.core.config.base import Kind, Name, Section, Seed
from stages.core.config.launcher import Accelerate, Single, Slurm
from stages.core.config.replay import Replay, check_replay
from stages.core.config.train_options import (
    Best,
    Encoder,
    InitAdapter,
    LoraPlus,
    Muon,
    Reward,
    RewardModel,
    RewardName,
    Teacher,
    TeacherModel,
)

Method = Literal[
    "sft",
    "dpo",
    "orpo",
    "kto",
    "grpo",
    "distillation",
    "reward-model",
    "sequence-classification",
    "token-classification",
]
"""What the model learns from.

- `sft`: answers.
- `dpo`, `orpo`: pairs of a better and a worse answer.
- `kto`: answers that are wanted or unwanted.
- `grpo`: the scores that metrics or a reward model give to its own answers.
- `distillation`: the probabilities that a larger model gives to the tokens of the answers that the
  trained model writes.
- `reward-model`: pairs of a better and a worse chat, as a judge.
- `sequence-classification`: a label for each text.
- `token-classification`: a label for each word.
"""
ON_POLICY = ("grpo", "distillation")
"""Methods that learn from the model's own answers."""
ANSWERING = ("sft", "dpo", "orpo", "kto", *ON_POLICY)
"""Methods whose model answers prompts."""
CLASSIFYING = ("sequence-classification", "token-classification")
"""Methods whose model has a classification head."""

WITHOUT_EFFECT = {
    "seeds",
    "dry_run",
    "checkpoint_minutes",
    "dvc_dependency",
    "reward_model_dvc_dependency",
    "teacher_dvc_dependency",
    "launcher",
}
"""Keys of the section on which the weights of one seed do not depend."""


MIN_TOKENS = 16
"""The smallest number of tokens of a forward and backward pass that may be asked for."""


def _check_tokens(value: object) -> object:
    if value == "auto" or (type(value) is int and value >= MIN_TOKENS):
        return value
    raise ValueError(f"should be auto or a whole number of at least {MIN_TOKENS}")


class TrainConfig(Section):
    """How the base model is tuned.

    `adapter`, `quantization` and `args` are passed to their libraries unchanged.
    """

    method: Method
    """The training method."""
    record_types: Annotated[list[Kind], Field(min_length=1)]
    """The kinds of records that the method learns from."""
    train_fraction: Annotated[float, Field(gt=0, le=1)]
    """The share of the training rows to use. A larger share contains the rows of a smaller one."""
    seeds: list[Seed]
    """Further training seeds besides `seed`. Each one trains another model with a different order
    of rows, different new weights and different dropout."""
    dry_run: bool
    """Whether to run only two steps and estimate what all steps would take. Nothing is written."""
    adapter: dict[str, Any] | None
    """The arguments of `peft.LoraConfig`. Null trains every weight."""
    init_adapter: InitAdapter
    quantization: dict[str, Any] | None
    """The arguments of `transformers.BitsAndBytesConfig` for the base model. Null does not quantize
    it."""
    trained_dtype: Literal["float32", "bfloat16"]
    """The precision of the trained weights if there is no adapter. In bfloat16 small updates are
    rounded away, but with an optimizer of 8 bits a weight takes 6 bytes instead of 16."""
    micro_batch_tokens: Annotated[int | Literal["auto"], PlainValidator(_check_tokens)]
    """How many tokens a forward and backward pass may have, padding included. `auto` means 768 on a
    CPU. On a GPU it means as many as should fit, up to 65,536."""
    attention: Name
    """An attention implementation of transformers, `per_row`
    (`stages/train/trainers/row_attention.py`), `varlen` (`varlen_attention.py`), or `auto`, which
    takes the fastest one for the device and the rows."""
    best: Best
    replay: Replay
    checkpoint_minutes: Annotated[float, Field(ge=0)]
    """The minutes between checkpoints, from which a killed run resumes. 0 writes one at every
    logged step."""
    grpo_rewards: dict[RewardName, Reward]
    """What method grpo rewards. Each reward has a name of your choice."""
    teacher: Teacher | None
    """The larger model whose answers method sft learns instead of the targets. Null learns the
    targets."""
    teacher_model: TeacherModel | None
    """The larger model whose probabilities method distillation learns."""
    encoder: Encoder | None
    """The encoder that is trained. Null puts the classification head on `model`."""
    label_separator: Name | None
    """The text between two labels of a target, for method sequence-classification with several
    labels for each row. Null takes the whole target as one label."""
    optimizer: Annotated[LoraPlus | Muon | None, Field(discriminator="kind")]
    """An optimizer that `train.args.optim` does not have. Null uses the one that it names."""
    launcher: Annotated[Single | Accelerate | Slurm, Field(discriminator="kind")]
    dvc_dependency: Name
    """What the stage depends on in DVC: the code of the metrics, if training uses one."""
    teacher_dvc_dependency: Name
    """What the stage depends on in DVC: the code of the teacher's client or the teacher's folder, if
    there is one."""
    reward_model_dvc_dependency: Name
    """What the stage depends on in DVC: the folder of the reward model, if there is one."""
    args: dict[str, Any]
    """The arguments of the class of TRL or transformers that `docs/training.md` names. The
    arguments `learning_rate`, `num_train_epochs` and `per_device_train_batch_size` may be
    `auto`."""

    @property
    def evaluates(self) -> bool:
        """Whether the model is evaluated during training."""
        # The default of transformers is no evaluation.
        return self.args.get("eval_strategy", "no") not in ("no", False, None)

    def get_effective(self) -> dict[str, Any]:
        """Return the settings on which the trained weights depend, except the seed."""
        settings = self.model_dump(exclude=WITHOUT_EFFECT)
        settings["replay"] = (
            self.replay.model_dump(exclude={"dvc_dependency"}) if self.replay.fraction else None
        )
        if self.teacher:
            who = self.teacher.endpoint.model_dump(include={"base_url", "model"})
            settings["teacher"] = self.teacher.model_dump() | {"endpoint": who}
        settings["init_adapter"] = self.init_adapter.model_dump(exclude={"dvc_dependency"})
        return settings

    @model_validator(mode="after")
    def _check_rewards(self) -> "TrainConfig":
        if self.method == "grpo" and not any(r.weight for r in self.grpo_rewards.values()):
            raise ValueError("grpo_rewards: method grpo needs a reward whose weight is not 0")
        folders = {r.folder for r in self.grpo_rewards.values() if isinstance(r, RewardModel)}
        if len(folders) > 1:
            raise ValueError(
                "grpo_rewards: only one reward model is possible, because DVC tracks one folder; "
                f"got {', '.join(sorted(folders))}"
            )
        return self

    @model_validator(mode="after")
    def _check_replay(self) -> "TrainConfig":
        if self.replay.fraction:
            if self.method != "sft" or "chat" not in self.record_types:
                raise ValueError(
                    "replay.fraction: must be 0, because replay rows can only be mixed into chats, "
                    "with method sft"
                )
            check_replay(self.replay, self.args, self.adapter)
        return self

    @model_validator(mode="after")
    def _check_teacher(self) -> "TrainConfig":
        if self.teacher and (self.method != "sft" or self.record_types != ["chat"]):
            raise ValueError(
                "teacher: a teacher answers chats for method sft; set method to sft and "
                "record_types to [chat], or teacher to null"
            )
        return self

    @model_validator(mode="after")
    def _check_teacher_model(self) -> "TrainConfig":
        if (self.method == "distillation") != (self.teacher_model is not None):
            raise ValueError(
                "teacher_model: method distillation learns from it, and no other method does; "
                "choose train=distill-on-policy and set teacher_model.source"
            )
        return self

    @model_validator(mode="after")
    def _check_start_and_optimizer(self) -> "TrainConfig":
        if self.init_adapter.source:
            check_start(self.adapter, self.args)
        if isinstance(self.optimizer, LoraPlus) and self.adapter is None:
            raise ValueError(
                "optimizer: LoRA+ needs an adapter; choose train/optimizer=none or train=lora"
            )
        return self

    @model_validator(mode="after")
    def _check_weights(self) -> "TrainConfig":
        if self.quantization is not None and self.adapter is None:
            raise ValueError(
                "quantization: needs an adapter, because quantized weights are not trained"
            )
        if self.adapter is not None:
            quantized = self.quantization is not None
            check_adapter(self.adapter, self.method, quantized, self.args.get("beta"))
        if self.best.patience and not self.evaluates:
            raise ValueError(
                "best.patience: nothing is evaluated during training, so training would never stop "
                "early; set args.eval_strategy=epoch or steps, or best.patience=null"
            )
        if self.trained_dtype != "float32" and (self.adapter is not None or self.encoder):
            raise ValueError(
                "trained_dtype: must be float32 with an adapter or an encoder, whose weights are "
                "always trained in float32"
            )
        return self

    @model_validator(mode="after")
    def _check_encoder(self) -> "TrainConfig":
        if self.encoder and self.quantization:
            raise ValueError(
                "quantization: an encoder is not quantized; "
                "set it to null, or choose train/encoder=none"
            )
        if self.label_separator and self.method != "sequence-classification":
            raise ValueError(
                "label_separator: only method sequence-classification has several labels for each "
                "row; set it to null"
            )
        if self.encoder and self.method not in CLASSIFYING:
            raise ValueError(
                f"encoder: method {self.method} trains `model`; choose train/encoder=none"
            )
        if self.best.metric != "loss" and self.method not in ANSWERING:
            raise ValueError(
                f"best.metric: must be loss, because a {self.method} model answers no prompts"
            )
        return self
