"""Stop a training that diverges or runs out of memory, and say which settings to change."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from stages.core.config.train import TrainConfig
from stages.core.errors import UserError
from stages.core.planning.auto import AUTO
from stages.core.planning.estimate import CPU_TOKENS

# The smoothing factor of the running mean of the loss, which covers about the last twenty steps.
SMOOTHING = 0.95
# Before this step only the last step of a training is checked, because a batch holds rows of
# similar length, and the losses of such batches differ by nats.
STEPS = 20
# A rise above the minimum by more than the larger of these two limits is no noise between batches.
# RUNAWAY, in nats, applies to a loss near zero. SHARE, relative to the minimum, applies to a loss
# that is large by nature (IPO begins at 25). A model with a loss of up to 7 nats can still be seen
# to diverge to 10.8 nats, the loss of a uniform guess among 49,152 tokens.
RUNAWAY = 3.0
SHARE = 0.5
SHOWN = 8  # The number of rows of a batch that a message names.


class DivergenceGuard:
    """Check the loss of every step and stop a training that diverges."""

    def __init__(self, ids: Sequence[str]) -> None:
        """Take the ids of the training rows, which error messages name."""
        self._ids = ids
        self._mean = 0.0
        self._seen = 0
        self._least: float | None = None
        self.largest_rise: float | None = RUNAWAY
        """The rise that is no noise between batches. None checks only that losses are finite."""

    def begin(self, loss: float) -> None:
        """Set the validation loss before training as the minimum so far.

        The training loss should not exceed it by much. Later calls have no effect.
        """
        if self._least is None:
            self._least = loss

    def dump(self) -> dict[str, Any]:
        """Return the state of the guard for JSON."""
        return {"mean": self._mean, "seen": self._seen, "least": self._least}

    def load(self, kept: dict[str, Any]) -> None:
        """Restore the state that `dump` returned."""
        self._mean = kept["mean"]
        self._seen = kept["seen"]
        self._least = kept["least"]

    def look(
        self, loss: float, step: int, learning_rate: float, rows: Sequence[int], last: bool = False
    ) -> None:
        """Check the loss of a step.

        Args:
            loss: The mean over the target tokens, in nats.
            step: The step number, starting at 1.
            learning_rate: The learning rate of the step.
            rows: The indices of the batch's rows in the training split.
            last: Whether this is the last step. It is always checked, even in a short training.

        Raises:
            UserError: If the loss is not finite or its running mean diverges.
        """
        if not math.isfinite(loss):
            raise UserError(self._message(f"the loss is {loss}", step, learning_rate, rows))
        self._seen += 1
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        if self._seen < STEPS and not last:
            return
        mean = self._mean / (1 - SMOOTHING**self._seen)
        self._least = mean if self._least is None else min(self._least, mean)
        if self.largest_rise is None:
            return
        if mean > self._least + max(self.largest_rise, SHARE * self._least):
            what = (
                "training diverges: the running mean of the loss rose from "
                f"{self._least:.3f} to {mean:.3f}"
            )
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
            "train.args.learning_rate, raise train.args.warmup_steps or check these rows. "
            "No model was written."
        )


@contextmanager
def explain_memory(train: TrainConfig) -> Iterator[None]:
    """Turn an out-of-memory error of torch into a message that names the settings to change.

    Raises:
        UserError: If memory runs out in the block.
    """
    try:
        yield
    # torch.OutOfMemoryError is a RuntimeError. The CPU allocator raises a plain RuntimeError.
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        first = str(error).splitlines()[0]
        raise UserError(
            f"out of memory ({first}). Try these settings in order: {_smaller(train)}; "
            "set train.args.gradient_checkpointing=true (slower); lower model.max_length with "
            "checks.too_long=truncate; use train=lora or a smaller model."
        ) from error


def _smaller(train: TrainConfig) -> str:
    """Return the advice for a smaller batch in memory that does not change the result."""
    if train.method == "sft":
        now: int | str = train.micro_batch_tokens
        if now == AUTO:
            now = f"{AUTO}, whose number was logged" if torch.cuda.is_available() else CPU_TOKENS
        return f"lower train.micro_batch_tokens (now {now}; the result stays the same)"
    rows = train.args.get("per_device_train_batch_size", 8)
    return (
        f"lower train.args.per_device_train_batch_size (now {rows}) and raise "
        "train.args.gradient_accumulation_steps by the same factor"
    )
