"""The trainer of heads of labels, and what an adapter beside a head needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transformers

from stages.core.models.classifier import HEADS
from stages.train.trainers.base import Resumable


class LabelTrainer(Resumable, transformers.Trainer):
    """The trainer of transformers for a model with a head of labels."""

    def __init__(self, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        # These models take the number of labels in a step and pass over it: their loss is the mean of one batch.
        self.model_accepts_loss_kwargs = False


def add_adapter(model: Any, adapter: Any, quantized: bool, checkpointing: bool) -> Any:
    """The model with an adapter; its head is trained whole, in float32 as the adapter is.

    Args:
        model: with a new head.
        adapter: a `peft.LoraConfig`; gets `exclude_modules` where it has none.
        quantized: whether the model's weights are.
        checkpointing: whether activations will be computed again in the backward pass.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    if quantized:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    adapter.exclude_modules = (
        adapter.exclude_modules or HEADS
    )  # new: it is trained itself (`modules_to_save`)
    model = get_peft_model(model, adapter)
    for (
        parameter
    ) in model.parameters():  # peft makes that of its own weights, and leaves the head's as it was
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


@contextmanager
def silence() -> Iterator[None]:
    """Transformers says errors alone in this block."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
