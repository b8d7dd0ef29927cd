"""The section of the configuration that says how the base model is tuned."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.core.config.base import Count, Kind, Name, Section, Seed
from stages.core.config.data import WheelSource
from stages.core.config.model import HubSource, RandomSource

Method = Literal["sft", "dpo", "orpo", "kto", "grpo", "reward", "classify", "tag"]
"""What the model learns from: answers; pairs of a better and a worse one (dpo, orpo); answers that are wanted or not
(kto); a metric of its own answers (grpo); pairs again, as a judge (reward); labels of a text; labels of its words."""
ANSWERING = ("sft", "dpo", "orpo", "kto", "grpo")
"""Methods whose model answers prompts."""
CLASSIFYING = ("classify", "tag")
"""Methods whose model has a classification head."""

WITHOUT_EFFECT = {"seeds", "dry_run", "checkpoint_minutes", "watch", "launcher"}
"""Keys of the section on which the weights do not depend; which seed is taken is no part of it."""


class Best(Section):
    """Which moment of training becomes the model. Looked at whenever `train.args.eval_strategy` evaluates."""

    metric: Name
    """`loss` of the validation split, or a folder under `stages/core/metrics`: validation rows are answered."""
    options: dict[str, Any]
    """The options of the metric."""
    rows: Count
    """How many validation rows are answered; the seed draws them."""
    max_new_tokens: Count
    """How many tokens such an answer may have."""
    patience: Count | None
    """After how many evaluations without a better value training stops; null trains to the end."""


class Replay(Section):
    """General chats mixed into the task's rows, so that less is forgotten (`stages/train/replay.py`)."""

    share: Annotated[float, Field(ge=0, lt=1)]
    """The replay rows' share of all rows of an epoch, and of the loss whatever their lengths; 0 mixes none in."""
    source: Name
    """`self`: the base model writes them. Else a JSONL file of chats, which keep their own system messages."""
    rows: Count
    """How many different rows there are at most; an epoch that needs more of them repeats them."""
    watch: Name
    """What DVC watches: the file of chats, where there is one."""


class Reward(Section):
    """What GRPO rewards: for each of its own answers, what the row alone gives by a metric."""

    metric: Name | None
    """A folder under `stages/core/metrics`; null for the other methods."""
    options: dict[str, Any]
    """The options of the metric."""


class Encoder(Section):
    """The model that gets a classification head."""

    name: Name
    source: Annotated[WheelSource | HubSource | RandomSource, Field(discriminator="kind")]
    max_length: Count
    """How many tokens of a text are read; what comes after them is cut."""


class Single(Section):
    """One process, on the one GPU where there is one."""

    kind: Literal["single"]


class Accelerate(Section):
    """Several processes by `accelerate launch`, on this machine or, by its own flags, on several."""

    kind: Literal["accelerate"]
    processes: Count
    """How many processes train on this machine."""
    config_file: Name | None
    """A configuration file of accelerate, as in `stages/train/distributed/accelerate`; null takes that for DDP."""
    args: list[str]
    """Further flags of `accelerate launch`."""


class Slurm(Section):
    """The same as a job of SLURM through submitit, one task a node; this process waits for it."""

    kind: Literal["slurm"]
    cluster: Literal["slurm", "local"]
    """`local` runs the job on this machine, to try it out."""
    nodes: Count
    processes: Count
    """How many processes train on each node."""
    config_file: Name | None
    args: list[str]
    folder: Name
    """The folder for the script and the logs of the job; every node must see it."""
    minutes: Count
    """The time limit of the job."""
    parameters: dict[str, Any]
    """Further parameters of submitit's executor: `slurm_partition`, `gpus_per_node`, …"""


class TrainConfig(Section):
    """How the base model is tuned. `adapter`, `quantization` and `args` go to their libraries as they are."""

    method: Method
    kinds: Annotated[list[Kind], Field(min_length=1)]
    """The kinds of records that this method learns from."""
    share: Annotated[float, Field(gt=0, le=1)]
    """The share of the training rows that is used; a smaller share is a part of every larger one."""
    seeds: list[Seed]
    """Further seeds of training beside `seed`. Each makes one more model: other order of rows, new weights, dropout."""
    dry_run: bool
    """Whether to do two steps only and say what all of them would take; nothing is written."""
    adapter: dict[str, Any] | None
    """The arguments of `peft.LoraConfig`; null trains every weight."""
    quantization: dict[str, Any] | None
    """The arguments of `transformers.BitsAndBytesConfig` for the base model; null keeps its weights."""
    micro_batch_tokens: Annotated[int, Field(ge=16)]
    """How many tokens one forward and backward pass has at most, padding included."""
    attention: Name
    """An attention implementation of transformers, `per_row` (`stages/train/trainers/packing.py`), or `auto`."""
    best: Best
    replay: Replay
    checkpoint_minutes: Annotated[float, Field(ge=0)]
    """The minutes between checkpoints, from which a killed run resumes; 0 makes one at every logged step."""
    reward: Reward
    encoder: Encoder | None
    """The encoder that is trained; null puts the classification head on `model`."""
    launcher: Annotated[Single | Accelerate | Slurm, Field(discriminator="kind")]
    watch: Name
    """What DVC watches too: the code of the metrics, where training goes by one."""
    args: dict[str, Any]
    """The arguments of TRL's or transformers' class, which `docs/training.md` names. Three may be `auto`."""

    def get_effective(self) -> dict[str, Any]:
        """The settings on which the trained weights depend, apart from the seed that is taken."""
        settings = self.model_dump(exclude=WITHOUT_EFFECT)
        settings["replay"] = (
            self.replay.model_dump(exclude={"watch"}) if self.replay.share else None
        )
        return settings

    @model_validator(mode="after")
    def _makes_sense(self) -> "TrainConfig":
        if self.method == "grpo" and self.reward.metric is None:
            raise ValueError("reward.metric: method grpo needs one, the name of a metric")
        if self.replay.share and (self.method != "sft" or "chat" not in self.kinds):
            raise ValueError(
                "replay.share must be 0: only answers to chats (method sft) are learned among replay rows"
            )
        if self.replay.share and (
            self.args.get("loss_type", "nll") != "nll" or self.args.get("label_smoothing_factor")
        ):
            raise ValueError(
                "replay.share weighs the loss: leave args.loss_type=nll and no label_smoothing_factor"
            )
        if self.quantization is not None and self.adapter is None:
            raise ValueError(
                "quantization: needs an adapter, for quantized weights themselves are not trained"
            )
        if self.encoder and self.quantization:
            raise ValueError(
                "quantization: an encoder is not quantized; leave null, or choose encoder=none"
            )
        if self.encoder and self.method not in CLASSIFYING:
            raise ValueError(f"encoder: method {self.method} trains `model`; choose encoder=none")
        if self.best.metric != "loss" and self.method not in ANSWERING:
            raise ValueError(
                f"best.metric: must be loss, for what {self.method} trains does not answer prompts"
            )
        return self
