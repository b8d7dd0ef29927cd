"""Training that goes wrong stops, and says where and what to turn."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from stages.core.config.train import TrainConfig
from stages.core.errors import UserError

SMOOTHING = 0.95  # of the running mean of the loss: about the last twenty steps, ...
STEPS = 20  # ... before which only the last step is judged: batches of rows of like length differ by nats
# More than this above the least so far is no noise of batches any more: nats for a loss that is near nothing, a share
# for one that is large by nature (IPO begins at 25). A model of 7 nats at the worst can still be seen to go to the
# 10.8 of one that knows nothing but its 49,152 tokens.
RUNAWAY = 3.0
SHARE = 0.5
SHOWN = 8  # rows of a batch in a message


class Watch:
    """Looks at the loss of every step."""

    def __init__(self, ids: Sequence[str]) -> None:
        """Take the ids of the training rows, by which a message names them."""
        self._ids = ids
        self._mean = 0.0
        self._seen = 0
        self._least: float | None = None

    def begin(self, loss: float) -> None:
        """Take the validation loss before training, which no loss should exceed by much; later ones change nothing."""
        if self._least is None:
            self._least = loss

    def dump(self) -> dict[str, Any]:
        """What it has seen, for JSON."""
        return {"mean": self._mean, "seen": self._seen, "least": self._least}

    def load(self, kept: dict[str, Any]) -> None:
        """Go on from what `dump` gave."""
        self._mean = kept["mean"]
        self._seen = kept["seen"]
        self._least = kept["least"]

    def look(
        self, loss: float, step: int, learning_rate: float, rows: Sequence[int], last: bool = False
    ) -> None:
        """Take the loss of a step.

        Args:
            loss: mean over the target tokens, in nats.
            step: its number, from 1.
            learning_rate: of the step.
            rows: places of the batch's rows in the training split.
            last: whether no step comes after it, so that also a short training is judged.

        Raises:
            UserError: the loss is no number, or its running mean has run away.
        """
        if not math.isfinite(loss):
            raise UserError(self._message(f"the loss is {loss}", step, learning_rate, rows))
        self._seen += 1
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        if self._seen < STEPS and not last:
            return
        mean = self._mean / (1 - SMOOTHING**self._seen)
        self._least = mean if self._least is None else min(self._least, mean)
        if mean > self._least + max(RUNAWAY, SHARE * self._least):
            what = f"training diverges: the running mean of the loss, {self._least:.3f} before, is {mean:.3f}"
            raise UserError(self._message(what, step, learning_rate, rows))

    def _message(self, what: str, step: int, learning_rate: float, rows: Sequence[int]) -> str:
        ids = [self._ids[i] for i in rows]
        replayed = (
            " and of train.replay (replay-…)"
            if any(name.startswith("replay-") for name in ids[:SHOWN])
            else ""
        )
        more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        return (
            f"{what} at step {step} (learning rate {learning_rate:.3g}). Rows of the batch in "
            f"data/prepared/train.jsonl{replayed}: {', '.join(ids[:SHOWN])}{more}. Lower "
            "train.args.learning_rate, raise train.args.warmup_steps, or look at these rows. Nothing was written."
        )


@contextmanager
def explain_memory(train: TrainConfig) -> Iterator[None]:
    """Turn an out-of-memory error of torch into a message that names the knobs.

    Raises:
        UserError: memory ran out in the block.
    """
    try:
        yield
    except (
        RuntimeError
    ) as error:  # torch.OutOfMemoryError is one; the CPU's allocator knows no type of its own
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        first = str(error).splitlines()[0]
        raise UserError(
            f"out of memory ({first}). In this order: {_smaller(train)}, set train.args.gradient_checkpointing=true "
            "(slower), lower model.max_length with checks.too_long=truncate, take train=lora or a smaller model."
        ) from error


def _smaller(train: TrainConfig) -> str:
    """The knob that takes less at once and leaves the result as it is."""
    if train.method == "sft":
        return f"lower train.micro_batch_tokens (now {train.micro_batch_tokens}; the result stays the same)"
    rows = train.args.get("per_device_train_batch_size", 8)
    return f"lower train.args.per_device_train_batch_size (now {rows}) and raise gradient_accumulation_steps as much"
