"""TRL's trainers for preferences, for examples that are tokenized already."""

from typing import Any

from datasets import Dataset
from trl import DPOTrainer, KTOTrainer, RewardTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from stages.train.trainers.base import Resumable


class DpoTrainer(Resumable, DPOTrainer):
    """From `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        return dataset


class OrpoTrainer(Resumable, ORPOTrainer):
    """From `input_ids`, `attention_mask` and `labels` of both, as `chosen_…` and `rejected_…`."""

    @staticmethod
    def tokenize_row(feature: dict[str, Any]) -> dict[str, Any]:
        """The example as it is."""
        return feature


class RewardModelTrainer(Resumable, RewardTrainer):
    """From `chosen_ids` and `rejected_ids`, which are whole chats."""


class Mismatching(DataCollatorForUnpairedPreference):
    """Pads rows, and adds to each the answer of the one before it in the batch, for the KL term of KTO.

    TRL makes these pairs once, for rows in a fixed order, and so refuses to shuffle them.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Tensors of the rows and of the mismatched pairs."""
        answers = [example["completion_ids"] for example in examples]
        before = answers[-1:] + answers[:-1]
        return super().torch_call(
            [{**e, "KL_completion_ids": a} for e, a in zip(examples, before, strict=True)]
        )


class KtoTrainer(Resumable, KTOTrainer):
    """From `prompt_ids`, `completion_ids` and `label`."""

    def __init__(self, *, args: Any, processing_class: Any, **others: Any) -> None:
        collator = Mismatching(
            processing_class.pad_token_id, pad_to_multiple_of=args.pad_to_multiple_of
        )
        order = args.train_sampling_strategy
        args.train_sampling_strategy = "sequential"  # the only one it lets pass
        super().__init__(
            args=args, processing_class=processing_class, data_collator=collator, **others
        )
        args.train_sampling_strategy = order

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        return dataset

    def count_tokens(self, inputs: Any) -> int:
        """Of the rows, not of the mismatched pairs: nothing is learned from these."""
        return int(inputs["attention_mask"].sum())
