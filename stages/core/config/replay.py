"""The section of the configuration for replay of general chats during training."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.core.config.adapter import is_residual
from stages.core.config.base import Count, Name, Section


class Replay(Section):
    """General chats among the rows of the task, so that the model forgets less.

    See `stages/train/replay.py`.
    """

    fraction: Annotated[float, Field(ge=0, lt=1)]
    """The replay rows' share of all rows in an epoch. 0 means no replay rows."""
    loss_fraction: Annotated[float, Field(gt=0, lt=1)] | None
    """The replay rows' share of the loss, however long their answers are. Null means `fraction`."""
    loss: Literal["nll", "kl"]
    """What the rows that the base model wrote teach. With `nll` the model learns their answers. With
    `kl` it keeps the probabilities that the base model gives to each token of them. This needs an
    adapter, because the base model is the model with the adapter switched off. The answers of files
    are always learned."""
    source: Name
    """Where the replay rows come from. With `self` the base model writes them. Otherwise it is a
    JSONL file of chats, or a folder of such files. These chats keep their own system messages."""
    weights: dict[Name, Annotated[float, Field(ge=0)]]
    """How often each file is drawn, relative to the others. The names are those of the files
    without `.jsonl`, and `self`, which adds rows that the base model writes. Without weights all
    files are drawn equally often."""
    task_questions: Annotated[float, Field(ge=0, le=1)]
    """The share of the rows that the base model writes by answering questions of the task, asked
    without the task's system message. From them the model learns to do the task only when it is
    asked to. It applies to the source `self`, and to rows that are trained with a system message."""
    rows: Count
    """The largest number of different replay rows of each file, and of those that the base model
    writes. An epoch that needs more repeats them."""
    dvc_dependency: Name
    """What the stage depends on in DVC: the file of chats, if there is one."""

    @property
    def asks_base(self) -> bool:
        """Whether training asks the base model for its probabilities of rows that it wrote."""
        return self.loss == "kl" and (self.source == "self" or self.weights.get("self", 0) > 0)


def check_replay(replay: Replay, args: Mapping[str, Any], adapter: dict[str, Any] | None) -> None:
    """Check that training can weight its loss, and has the base model at hand for the loss `kl`.

    Args:
        replay: The section, whose fraction is not 0.
        args: The arguments of TRL's class.
        adapter: The arguments of peft's class, or None to train every weight.

    Raises:
        ValueError: It cannot. The message begins with the key.
    """
    if args.get("loss_type", "nll") != "nll" or args.get("label_smoothing_factor"):
        raise ValueError(
            "replay.fraction: replay rows weight the loss, which requires args.loss_type=nll "
            "and no args.label_smoothing_factor"
        )
    if not replay.asks_base:
        return
    if adapter is None:
        obstacle = "has no adapter"
    elif is_residual(adapter):
        obstacle = "moves weights of the base model into the adapter (adapter.init_lora_weights)"
    elif adapter.get("bias", "none") != "none":
        obstacle = "trains biases of the base model (adapter.bias)"
    else:
        return
    raise ValueError(
        "replay.loss: kl compares the model with itself without the adapter, but this training "
        f"{obstacle}; set replay.loss to nll"
    )
