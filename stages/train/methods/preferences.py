"""Learning from judged answers.

The methods dpo, orpo and reward-model learn from pairs of a better and a worse answer. The method
kto learns from single answers.
"""

import copy
import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import disable_progress_bars
from transformers import set_seed
from trl import DPOConfig, KTOConfig, RewardConfig

from stages.core.data.records import Record
from stages.core.models.loading import get_model
from stages.train.examples import IGNORED
from stages.train.methods.judged_answers import Ids, Judged, get_length
from stages.train.stored_examples import read_numbers
from stages.train.trainers.preferences import (
    DpoTrainer,
    KtoTrainer,
    OrpoTrainer,
    RewardModelTrainer,
)

if TYPE_CHECKING:
    from stages.train.monitoring.training_progress import TrainingProgress

log = logging.getLogger(__name__)
# Equation 8 of the KTO paper bounds the total weight of wanted rows over that of unwanted rows.
BALANCE = (1.0, 4 / 3)


class Pairs(Judged):
    """A method that learns from pairs of answers."""

    def make_examples(self, records: Sequence[Record]) -> Iterator[dict[str, Any]]:
        """Yield one example per pair, with the columns that `get_columns` returns."""
        rows = self.encode(records, lambda record: [record.messages[-1], record.rejected or {}])
        for i, (_, row) in enumerate(rows):
            yield {"row": i, **self.get_columns(*row), "length": get_length(row)}

    @abstractmethod
    def get_columns(self, prompt: Ids, chosen: Ids, rejected: Ids) -> dict[str, Any]:
        """Return the columns of a pair that the trainer needs."""


class Dpo(Pairs):
    """Direct preference optimization.

    Better answers become likelier than worse ones, relative to the base model.
    """

    arguments = DPOConfig

    @property
    def fixed_arguments(self) -> dict[str, Any]:
        """Set no maximum length, because `encode` rejects rows that are too long."""
        return {"max_length": None}

    def get_columns(self, prompt: Ids, chosen: Ids, rejected: Ids) -> dict[str, Any]:
        """Return the prompt and the two answers separately."""
        return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}

    def get_row_ids(self, row: dict[str, Any]) -> Ids:
        """Return the prompt with the better answer."""
        return row["prompt_ids"] + row["chosen_ids"]

    def make_trainer(self, progress: "TrainingProgress", **common: Any) -> DpoTrainer:
        """Create the trainer with the base model as the reference."""
        return DpoTrainer(ref_model=get_reference(**common), progress=progress, **common)


class Orpo(Pairs):
    """Odds ratio preference optimization.

    It learns the better answers and makes the worse ones less likely at the same time.
    """

    @property
    def arguments(self) -> type:
        """Return the class of TRL's training arguments for ORPO."""
        # This module warns that it may change unless other trainers were imported before.
        from trl.experimental.orpo import ORPOConfig

        return ORPOConfig

    @property
    def fixed_arguments(self) -> dict[str, Any]:
        """Set the model's limit as the maximum length, because TRL reads None as 512.

        Nothing is cut, because `encode` rejects rows that are too long.
        """
        return {"max_length": self.config.model.max_length}

    def get_columns(self, prompt: Ids, chosen: Ids, rejected: Ids) -> dict[str, Any]:
        """Return both chats, with labels on the answers only."""
        columns: dict[str, Any] = {}
        for name, answer in (("chosen", chosen), ("rejected", rejected)):
            ids = prompt + answer
            columns |= {f"{name}_input_ids": ids, f"{name}_attention_mask": [1] * len(ids)}
            columns[f"{name}_labels"] = [IGNORED] * len(prompt) + answer
        return columns

    def get_row_ids(self, row: dict[str, Any]) -> Ids:
        """Return the chat with the better answer."""
        return row["chosen_input_ids"]

    def make_trainer(self, progress: "TrainingProgress", **common: Any) -> OrpoTrainer:
        """Create the trainer, which needs no reference model."""
        disable_progress_bars()  # TRL maps the rows three times although nothing is left to do
        return OrpoTrainer(progress=progress, **common)


class RewardModel(Pairs):
    """A reward model, which is the base model with a head that scores better chats higher."""

    task_type = "SEQ_CLS"
    model_class = "AutoModelForSequenceClassification"
    arguments = RewardConfig

    @property
    def fixed_arguments(self) -> dict[str, Any]:
        """Set no maximum length, because `encode` rejects rows that are too long."""
        return {"max_length": None}

    def get_model(self) -> Any:
        """Load the base model with a new head for one score, initialised from the seed."""
        train = self.config.train
        dtype = self.config.model.dtype if train.adapter else train.trained_dtype
        set_seed(self.seed)
        return get_model(
            *(self.base, dtype, train.quantization), kind=self.model_class, num_labels=1
        )

    def get_columns(self, prompt: Ids, chosen: Ids, rejected: Ids) -> dict[str, Any]:
        """Return both whole chats."""
        return {"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected}

    def get_row_ids(self, row: dict[str, Any]) -> Ids:
        """Return the chat with the better answer."""
        return row["chosen_ids"]

    def compute_row_loss(self, model: Any, row: dict[str, Any]) -> torch.Tensor:
        """Compute minus the log-probability that the better chat wins."""
        chosen, rejected = (
            model(input_ids=torch.tensor([row[key]], device=model.device)).logits[0, 0].float()
            for key in ("chosen_ids", "rejected_ids")
        )
        return -torch.nn.functional.logsigmoid(chosen - rejected)

    def make_trainer(self, progress: "TrainingProgress", **common: Any) -> RewardModelTrainer:
        """Create TRL's trainer, which also sets the padding token of the model.

        The model reads the score at the last token that is not padding.
        """
        trainer = RewardModelTrainer(progress=progress, **common)
        self.model_config = trainer.model.config
        return trainer

    def finish(self, folder: Path) -> None:
        """Save the model's configuration, which describes the head and which an adapter lacks."""
        self.model_config.save_pretrained(folder)


class Kto(Judged):
    """Kahneman-Tversky optimization.

    Wanted answers become likelier and unwanted ones less likely, without pairs.
    """

    arguments = KTOConfig

    @property
    def fixed_arguments(self) -> dict[str, Any]:
        """Set no maximum length and compute no reference log-probabilities in advance.

        `encode` rejects rows that are too long. The KL term compares answers within a batch, so the
        reference can only be computed once the batch is known.
        """
        return {"max_length": None, "precompute_ref_log_probs": False}

    def make_examples(self, records: Sequence[Record]) -> Iterator[dict[str, Any]]:
        """Yield examples with the prompt, the answer and whether the answer is wanted."""
        rows = self.encode(records, lambda record: record.messages[-1:])
        for i, (record, row) in enumerate(rows):
            yield {
                "row": i,
                "prompt_ids": row[0],
                "completion_ids": row[1],
                "label": bool(record.desirable),
                "length": get_length(row),
            }

    def get_row_ids(self, row: dict[str, Any]) -> Ids:
        """Return the prompt with its answer."""
        return row["prompt_ids"] + row["completion_ids"]

    def make_trainer(self, progress: "TrainingProgress", **common: Any) -> KtoTrainer:
        """Create the trainer with the base model as the reference."""
        warn_about_imbalance(read_numbers(common["train_dataset"], "label"), common["args"])
        return KtoTrainer(ref_model=get_reference(**common), progress=progress, **common)


def get_reference(model: Any, args: Any, peft_config: Any, **_: Any) -> Any:
    """Copy the model as the reference, or return None if no copy is needed.

    With an adapter the model without its adapter is the reference. Without one TRL would load the
    model again by its name, which ignores a configured revision.
    """
    return None if peft_config or args.precompute_ref_log_probs else copy.deepcopy(model)


def warn_about_imbalance(labels: np.ndarray, args: KTOConfig) -> None:
    """Warn if wanted and unwanted rows do not have about the same weight, and say what to set."""
    wanted = int(labels.sum())
    unwanted = len(labels) - wanted
    even = unwanted * args.undesirable_weight / max(wanted, 1)
    least, most = (round(bound * even, 2) for bound in BALANCE)
    if unwanted and not least <= args.desirable_weight <= most:
        text = (
            "%d wanted and %d unwanted rows: train.args.desirable_weight should be between %s "
            "and %s"
        )
        log.warning(text, wanted, unwanted, least, most)
