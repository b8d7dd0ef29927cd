"""Parts of the section for training, such as the start, the rewards and the optimizer."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from stages.core.config.base import Count, Name, Section
from stages.core.config.data import WheelSource
from stages.core.config.model import HubSource, RandomSource
from stages.core.config.prompt import Endpoint

OUTPUTS = ("models/tuned", "models/rivals")
"""The folders that training writes."""


def _check_input(folder: str) -> str:
    if any(Path(folder).resolve().is_relative_to(Path(path).resolve()) for path in OUTPUTS):
        raise ValueError(
            "this folder is an output of training, which replaces it; copy it to another folder, "
            "such as models/start"
        )
    return folder


Input = Annotated[Name, AfterValidator(_check_input)]
"""A folder that training reads, or a model's id on the hub."""


class InitAdapter(Section):
    """An adapter that was trained before, from whose weights training starts."""

    source: Input | None
    """The folder of the adapter, such as a copy of `models/tuned`, or its id on the hub
    (owner/name). Null starts with a new adapter."""
    revision: str | None
    """The commit, tag or branch on the hub. Null reads the default branch."""
    dvc_dependency: Name
    """What the stage depends on in DVC: the folder, if it is one."""


class MetricScore(Section):
    """A reward of GRPO that is the score of a metric for each single answer."""

    kind: Literal["metric-score"]
    metric: Name
    """The metric, a folder under `stages/core/metrics`."""
    options: dict[str, Any]
    """The options of the metric."""
    weight: float
    """The factor of the reward in the sum of all rewards. 0 only records it."""


class RewardModel(Section):
    """A reward of GRPO that is the score of a model of method reward-model."""

    kind: Literal["reward-model"]
    folder: Input
    """The folder of the model, a copy of `models/tuned`."""
    weight: float
    """The factor of the reward in the sum of all rewards. 0 only records it."""


Reward = Annotated[MetricScore | RewardModel, Field(discriminator="kind")]
RewardName = Annotated[str, Field(pattern=r"^[\w-]+$")]


class Teacher(Section):
    """A larger model that answers the training prompts, and whose answers are learned."""

    endpoint: Endpoint
    """The model behind an endpoint."""
    system_prompt: str | None
    """The system message of the teacher. Null keeps the one of the row."""
    max_new_tokens: Count
    """How many tokens an answer may have. Rows with a longer answer are left out."""

    @field_validator("endpoint", mode="before")
    @classmethod
    def _is_given(cls, value: object) -> object:
        if value is None:
            raise ValueError(
                "distillation needs a teacher to ask; choose prompt/remote=openai or "
                "prompt/remote=local-server"
            )
        return value


class TeacherModel(Section):
    """A larger model with the same tokens, whose probabilities are learned."""

    source: Input
    """A folder with a whole model, or its id on the hub (owner/name)."""
    revision: str | None
    """The commit, tag or branch on the hub. Null reads the default branch."""


class LoraPlus(Section):
    """LoRA+, which trains the matrices A and B of an adapter at different rates.

    It uses the optimizer that `train.args.optim` names. `train.args.learning_rate` is that of A.
    """

    kind: Literal["loraplus"]
    lr_ratio: Annotated[float, Field(ge=1)]
    """The learning rate of B, relative to that of A."""
    lr_embedding: Annotated[float, Field(gt=0)]
    """The learning rate of adapters on embeddings."""


class Muon(Section):
    """Muon for the matrices of hidden layers.

    The optimizer that `train.args.optim` names trains all other weights, such as embeddings, output
    layers and norms.
    """

    kind: Literal["muon"]
    args: dict[str, Any]
    """The arguments of `torch.optim.Muon`. The learning rate and the weight decay are those of
    `train.args`."""

    @field_validator("args")
    @classmethod
    def _leaves_the_rate(cls, args: dict[str, Any]) -> dict[str, Any]:
        if {"lr", "weight_decay"} & set(args):
            raise ValueError(
                "Muon takes lr and weight_decay from train.args.learning_rate and "
                "train.args.weight_decay; remove them"
            )
        return args


class Best(Section):
    """The choice of the training step that becomes the model.

    Each evaluation that `train.args.eval_strategy` triggers is a candidate.
    """

    metric: Name
    """`loss` for the loss on the validation split, or a metric, which is a folder under
    `stages/core/metrics`. For a metric the model answers validation rows."""
    options: dict[str, Any]
    """The options of the metric."""
    eval_rows: Count
    """How many validation rows the model answers. They are drawn by the seed."""
    max_new_tokens: Count
    """How many tokens an answer to a validation row may have."""
    patience: Count | None
    """The number of evaluations without a better value after which training stops. Null trains to
    the end."""


class Encoder(Section):
    """An encoder that gets a classification head."""

    name: Name
    source: Annotated[WheelSource | HubSource | RandomSource, Field(discriminator="kind")]
    max_length: Count
    """How many tokens of a text the encoder reads. Longer texts are cut."""
