"""TRL's preference trainers for examples that are already tokenized."""

from typing import Any

from datasets import Dataset
from trl import DPOTrainer, KTOTrainer, RewardTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from stages.train.trainers.base import ResumableTrainerMixin


class DpoTrainer(ResumableTrainerMixin, DPOTrainer):
    """DPO trainer for examples with `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        return dataset


class OrpoTrainer(ResumableTrainerMixin, ORPOTrainer):
    """ORPO trainer for tokenized examples.

    They have `input_ids`, `attention_mask` and `labels` of both chats, with the prefixes `chosen_`
    and `rejected_`.
    """

    @staticmethod
    def tokenize_row(feature: dict[str, Any]) -> dict[str, Any]:
        """Return the example unchanged, because it is already tokenized."""
        return feature


class RewardModelTrainer(ResumableTrainerMixin, RewardTrainer):
    """Reward trainer for examples with the whole chats as `chosen_ids` and `rejected_ids`."""


class Mismatching(DataCollatorForUnpairedPreference):
    """A collator that adds mismatched answers for the KL term of KTO.

    It pads the rows and gives each row the answer of the row before it in the batch. TRL makes
    these pairs once for rows in a fixed order, and so refuses to shuffle the rows.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return tensors of the rows and of the mismatched pairs."""
        answers = [example["completion_ids"] for example in examples]
        before = answers[-1:] + answers[:-1]
        return super().torch_call(
            [{**e, "KL_completion_ids": a} for e, a in zip(examples, before, strict=True)]
        )


class KtoTrainer(ResumableTrainerMixin, KTOTrainer):
    """KTO trainer for examples with `prompt_ids`, `completion_ids` and `label`."""

    def __init__(self, *, args: Any, processing_class: Any, **others: Any) -> None:
        collator = Mismatching(
            processing_class.pad_token_id, pad_to_multiple_of=args.pad_to_multiple_of
        )
        order = args.train_sampling_strategy
        args.train_sampling_strategy = "sequential"  # TRL accepts no other one
        super().__init__(
            args=args, processing_class=processing_class, data_collator=collator, **others
        )
        args.train_sampling_strategy = order

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        return dataset

    def count_tokens(self, inputs: Any) -> int:
        """Count the tokens of the rows, but not of the mismatched pairs, which train nothing."""
        return int(inputs["attention_mask"].sum())
