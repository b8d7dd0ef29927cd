"""The trainer of classification heads, and adapters for models with such a head."""

from typing import Any

import transformers

from stages.core.models.classifier import HEADS
from stages.train.trainers.base import ResumableTrainerMixin


class LabelTrainer(ResumableTrainerMixin, transformers.Trainer):
    """The trainer of transformers for a model with a classification head."""

    def __init__(self, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        # These models accept the number of labels in a step but ignore it. Their loss is the mean
        # over one batch.
        self.model_accepts_loss_kwargs = False


def add_adapter(model: Any, adapter: Any, quantized: bool, checkpointing: bool) -> Any:
    """Add an adapter to a model whose new head is trained whole.

    Args:
        model: The model with a new head.
        adapter: A `peft.LoraConfig`. Its `exclude_modules` is set if it is empty.
        quantized: Whether the weights of the model are quantized.
        checkpointing: Whether the backward pass recomputes activations.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    if quantized:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    # The new head gets no adapter, because it is trained whole (`modules_to_save`).
    adapter.exclude_modules = adapter.exclude_modules or HEADS
    return get_peft_model(model, adapter)
