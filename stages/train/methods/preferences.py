"""Learning from judged answers: pairs of a better and a worse one (dpo, orpo, reward), or single ones (kto)."""

import copy
import logging
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, disable_progress_bars
from transformers import set_seed
from trl import DPOConfig, KTOConfig, RewardConfig
from trl.trainer.reward_trainer import suppress_seqcls_warning

from stages.core.data.records import Record
from stages.core.models.loading import get_model
from stages.train.examples import IGNORED
from stages.train.methods.judged_answers import Ids, Judged, get_length
from stages.train.trainers.preferences import (
    DpoTrainer,
    KtoTrainer,
    OrpoTrainer,
    RewardModelTrainer,
)

if TYPE_CHECKING:
    from stages.train.monitoring.training_progress import Journal

log = logging.getLogger(__name__)
BALANCE = (
    1.0,
    4 / 3,
)  # weight of all wanted rows over that of all unwanted ones: equation 8 of the KTO paper


class Pairs(Judged):
    """Methods that learn from pairs."""

    def get_examples(self, records: Sequence[Record]) -> Dataset:
        """What `get_columns` says of each pair."""
        rows = self.encode(records, lambda record: [record.messages[-1], record.rejected or {}])
        return Dataset.from_list(
            [
                {"row": i, **self.get_columns(*row), "length": get_length(row)}
                for i, row in enumerate(rows)
            ]
        )

    @abstractmethod
    def get_columns(self, prompt: Ids, chosen: Ids, rejected: Ids) -> dict[str, Any]:
        """What the trainer wants of a pair."""


class Dpo(Pairs):
    """Direct preference optimization: better answers become likelier than worse ones, as the base model sees them."""

    arguments = DPOConfig

    @property
    def ours(self) -> dict[str, Any]:
        """Nothing is cut: `encode` refuses what is too long."""
        return {"max_length": None}

    def get_columns(self, prompt: Ids, chosen: Ids, rejected: Ids) -> dict[str, Any]:
        """All three apart."""
        return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}

    def make_trainer(self, journal: "Journal", **common: Any) -> DpoTrainer:
        """With the base model as the reference."""
        return DpoTrainer(ref_model=get_reference(**common), journal=journal, **common)


class Orpo(Pairs):
    """Odds ratio preference optimization: the better answers are learned and the worse made less likely, at once."""

    @property
    def arguments(self) -> type:
        """TRL's."""
        from trl.experimental.orpo import (
            ORPOConfig,
        )  # it warns that it may change unless other trainers came before

        return ORPOConfig

    @property
    def ours(self) -> dict[str, Any]:
        """Nothing is cut: `encode` refuses what is too long. TRL takes None for 512."""
        return {"max_length": self.config.model.max_length}

    def get_columns(self, prompt: Ids, chosen: Ids, rejected: Ids) -> dict[str, Any]:
        """Both chats, with labels on the answers."""
        columns: dict[str, Any] = {}
        for name, answer in (("chosen", chosen), ("rejected", rejected)):
            ids = prompt + answer
            columns |= {f"{name}_input_ids": ids, f"{name}_attention_mask": [1] * len(ids)}
            columns[f"{name}_labels"] = [IGNORED] * len(prompt) + answer
        return columns

    def make_trainer(self, journal: "Journal", **common: Any) -> OrpoTrainer:
        """Without a reference."""
        disable_progress_bars()  # TRL passes over the rows three times; there is nothing to do
        return OrpoTrainer(journal=journal, **common)


class Reward(Pairs):
    """A reward model: a head on the base model scores the better of two chats higher."""

    task_type = "SEQ_CLS"
    arguments = RewardConfig

    @property
    def ours(self) -> dict[str, Any]:
        """Nothing is left out: `encode` refuses what is too long."""
        return {"max_length": None}

    def get_model(self) -> Any:
        """The base model with a new head of one score, drawn by the seed."""
        train = self.config.train
        dtype = self.config.model.dtype
        set_seed(self.seed)
        with suppress_seqcls_warning():  # that the head is new
            return get_model(
                *(self.base, dtype if train.adapter else "float32", train.quantization),
                kind="AutoModelForSequenceClassification",
                num_labels=1,
            )

    def get_columns(self, prompt: Ids, chosen: Ids, rejected: Ids) -> dict[str, Any]:
        """Whole chats."""
        return {"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected}

    def make_trainer(self, journal: "Journal", **common: Any) -> RewardModelTrainer:
        """TRL's, which also tells the model its padding: the score is read at the last token that is none."""
        trainer = RewardModelTrainer(journal=journal, **common)
        for name, module in trainer.model.named_modules():
            if name.endswith("score"):
                module.float()  # it is trained itself, and neither peft nor TRL keeps it exact
        self.model_config = trainer.model.config
        return trainer

    def finish(self, folder: Path) -> None:
        """What the head is like, beside an adapter as beside whole weights."""
        self.model_config.save_pretrained(folder)


class Kto(Judged):
    """Kahneman-Tversky optimization: wanted answers become likelier and unwanted ones less likely, without pairs."""

    arguments = KTOConfig

    @property
    def ours(self) -> dict[str, Any]:
        """Nothing is cut; and what the reference says of a batch cannot be computed before there is the batch."""
        return {"max_length": None, "precompute_ref_log_probs": False}

    def get_examples(self, records: Sequence[Record]) -> Dataset:
        """Prompt and answer apart, and whether it is wanted."""
        rows = self.encode(records, lambda record: record.messages[-1:])
        return Dataset.from_list(
            [
                {
                    "row": i,
                    "prompt_ids": row[0],
                    "completion_ids": row[1],
                    "label": label,
                    "length": get_length(row),
                }
                for i, (row, label) in enumerate(
                    zip(rows, [bool(record.desirable) for record in records], strict=True)
                )
            ]
        )

    def make_trainer(self, journal: "Journal", **common: Any) -> KtoTrainer:
        """With the base model as the reference."""
        weigh(common["train_dataset"]["label"], common["args"])
        return KtoTrainer(ref_model=get_reference(**common), journal=journal, **common)


def get_reference(model: Any, args: Any, peft_config: Any, **_: Any) -> Any:
    """A copy of the model to compare with, or None: without its adapter the model itself is the reference.

    TRL would load it anew by its name, which is another model where a revision was chosen.
    """
    return None if peft_config or args.precompute_ref_log_probs else copy.deepcopy(model)


def weigh(labels: Sequence[bool], args: KTOConfig) -> None:
    """Say what to set where wanted and unwanted rows do not weigh about the same."""
    wanted = sum(labels)
    unwanted = len(labels) - sum(labels)
    even = unwanted * args.undesirable_weight / max(wanted, 1)
    least, most = (round(bound * even, 2) for bound in BALANCE)
    if unwanted and not least <= args.desirable_weight <= most:
        text = "%d wanted and %d unwanted rows: train.args.desirable_weight should be between %s and %s"
        log.warning(text, wanted, unwanted, least, most)
