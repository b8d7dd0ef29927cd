"""Optional parts of the section for training: the start, the rewards and the optimizer."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from stages.core.config.base import Count, Name, Section
from stages.core.config.prompt import Endpoint

OUTPUTS = ("models/tuned", "models/rivals")
"""The folders that training writes."""


class InitAdapter(Section):
    """An adapter that was trained before, from whose weights training starts."""

    source: Name | None
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
    folder: Name
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

    source: Name
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


def is_output(folder: str) -> bool:
    """Return whether training writes to a folder, or below it."""
    return any(Path(folder).resolve().is_relative_to(Path(path).resolve()) for path in OUTPUTS)
