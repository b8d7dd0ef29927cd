"""Time the steps of a trainer after its warm-up, for `benchmarks.gpu_rates`."""

import time
from typing import Any

from benchmarks.gpu_cases import WARM_STEPS

SECONDS = 15.0  # after which no further step begins


class Clock:
    """A mixin for a trainer that notes the time and the tokens of each pass over a batch."""

    def __init__(self, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        self.times: list[float] = []
        self.tokens: list[int] = []

    def training_step(self, model: Any, inputs: Any, *others: Any) -> Any:
        """Run the step and wait until the GPU has finished it."""
        import torch

        mask = inputs.get("attention_mask")
        tokens = int(inputs["input_ids"].numel() if mask is None else mask.sum())
        loss = super().training_step(model, inputs, *others)  # type: ignore[misc]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        self.tokens.append(tokens)
        return loss


def run(trainer: Any) -> tuple[float, int]:
    """Train, and return the seconds and the tokens of the measured steps."""
    from transformers import PrinterCallback, TrainerCallback

    from stages.train.trainers.packing import joined_rows

    class Limit(TrainerCallback):
        warm = 0  # passes until the end of the warm-up

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == WARM_STEPS:
                self.warm = len(trainer.times)
            elif self.warm and time.perf_counter() - trainer.times[self.warm - 1] > SECONDS:
                control.should_training_stop = True

    limit = Limit()
    trainer.add_callback(limit)
    trainer.remove_callback(PrinterCallback)
    if getattr(trainer, "padding_free", False):
        with joined_rows():  # otherwise transformers would make a mask of all tokens by all tokens
            trainer.train()
    else:
        trainer.train()
    seconds = trainer.times[-1] - trainer.times[limit.warm - 1]
    return seconds, sum(trainer.tokens[limit.warm :])
