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
"""Methods whose model has a head of labels."""

WITHOUT_EFFECT = {"seeds", "dry_run", "checkpoint_minutes", "watch", "launcher"}
"""Keys of the section on which the weights do not depend; which seed is taken is no part of it."""


class Best(Section):
    """Which moment of training becomes the model. Looked at whenever `train.args.eval_strategy` evaluates."""

    metric: Name
    """`loss` of the validation split, or a folder under `stages/core/metrics`: validation rows are answered."""
    options: dict[str, Any]
    """Of the metric."""
    rows: Count
    """Validation rows that are answered, drawn by the seed."""
    max_new_tokens: Count
    """Of such an answer."""
    patience: Count | None
    """Evaluations in a row without a better value before training stops; null goes to the end."""


class Replay(Section):
    """General chats mixed into the task's rows, so that less is forgotten (`stages/train/replay.py`)."""

    share: Annotated[float, Field(ge=0, lt=1)]
    """The replay rows' share of all rows of an epoch, and of the loss whatever their lengths; 0 mixes none in."""
    source: Name
    """`self`: the base model writes them. Else a JSONL file of chats, which keep their own system messages."""
    rows: Count
    """Different rows at most; an epoch that needs more of them repeats them."""
    watch: Name
    """What DVC watches: the file of chats, where there is one."""


class Reward(Section):
    """What GRPO rewards: for each of its own answers, what the row alone gives by a metric."""

    metric: Name | None
    """A folder under `stages/core/metrics`; null for the other methods."""
    options: dict[str, Any]
    """Of the metric."""


class Encoder(Section):
    """The model that gets a head of labels."""

    name: Name
    source: Annotated[WheelSource | HubSource | RandomSource, Field(discriminator="kind")]
    max_length: Count
    """Tokens of a text that it reads; what comes after them is cut."""


class Single(Section):
    """One process, on the one GPU where there is one."""

    kind: Literal["single"]


class Accelerate(Section):
    """Several processes by `accelerate launch`, on this machine or, by its own flags, on several."""

    kind: Literal["accelerate"]
    processes: Count
    """On this machine."""
    config_file: Name | None
    """Of accelerate. `stages/train/distributed/accelerate` has those for DDP, FSDP and DeepSpeed; null is the first."""
    args: list[str]
    """More flags of `accelerate launch`."""


class Slurm(Section):
    """The same as a job of SLURM through submitit, one task a node; this process waits for it."""

    kind: Literal["slurm"]
    cluster: Literal["slurm", "local"]
    """`local` runs the job on this machine, to try it out."""
    nodes: Count
    processes: Count
    """On each node."""
    config_file: Name | None
    args: list[str]
    folder: Name
    """For the job's script and its logs; every node must see it."""
    minutes: Count
    """Time limit of the job."""
    parameters: dict[str, Any]
    """More parameters of submitit's executor: `slurm_partition`, `gpus_per_node`, …"""


class TrainConfig(Section):
    """How the base model is tuned. `adapter`, `quantization` and `args` go to their libraries as they are."""

    method: Method
    kinds: Annotated[list[Kind], Field(min_length=1)]
    """Kinds of records that this method learns from."""
    share: Annotated[float, Field(gt=0, le=1)]
    """Of the training rows: a smaller one is a part of every larger one. For the learning curve."""
    seeds: list[Seed]
    """More seeds of training beside `seed`, each of one more model: order of rows, new weights, dropout."""
    dry_run: bool
    """Two steps and what all of them would take; nothing is written."""
    adapter: dict[str, Any] | None
    """Arguments of `peft.LoraConfig`; null trains every weight."""
    quantization: dict[str, Any] | None
    """Arguments of `transformers.BitsAndBytesConfig`, for the base model under an adapter; null keeps its weights."""
    micro_batch_tokens: Annotated[int, Field(ge=16)]
    """Padded tokens in one forward and backward pass."""
    attention: Name
    """An attention implementation of transformers, `per_row` (`stages/train/trainers/packing.py`), or `auto`."""
    best: Best
    replay: Replay
    checkpoint_minutes: Annotated[float, Field(ge=0)]
    """Between checkpoints, from which a killed run goes on; 0 makes one at every logged step."""
    reward: Reward
    encoder: Encoder | None
    """Null puts the head of labels on `model`."""
    launcher: Annotated[Single | Accelerate | Slurm, Field(discriminator="kind")]
    watch: Name
    """Code that DVC watches: the metrics, where training goes by one."""
    args: dict[str, Any]
    """Arguments of TRL's or transformers' class for the method: `docs/training.md` names it. Three may be `auto`."""

    def get_effective(self) -> dict[str, Any]:
        """The settings on which the trained weights depend, apart from the seed that is taken."""
        settings = self.model_dump(exclude=WITHOUT_EFFECT)
        settings["replay"] = self.replay.model_dump(exclude={"watch"}) if self.replay.share else None
        return settings

    @model_validator(mode="after")
    def _makes_sense(self) -> "TrainConfig":
        if self.method == "grpo" and self.reward.metric is None:
            raise ValueError("reward.metric: method grpo needs one, the name of a metric")
        if self.replay.share and (self.method != "sft" or "chat" not in self.kinds):
            raise ValueError("replay.share must be 0: only answers to chats (method sft) are learned among replay rows")
        if self.replay.share and (
            self.args.get("loss_type", "nll") != "nll" or self.args.get("label_smoothing_factor")
        ):
            raise ValueError("replay.share weighs the loss: leave args.loss_type=nll and no label_smoothing_factor")
        if self.quantization is not None and self.adapter is None:
            raise ValueError("quantization: needs an adapter, for quantized weights themselves are not trained")
        if self.encoder and self.quantization:
            raise ValueError("quantization: an encoder is not quantized; leave null, or choose encoder=none")
        if self.encoder and self.method not in CLASSIFYING:
            raise ValueError(f"encoder: method {self.method} trains `model`; choose encoder=none")
        if self.best.metric != "loss" and self.method not in ANSWERING:
            raise ValueError(f"best.metric: must be loss, for what {self.method} trains does not answer prompts")
        return self
