"""What a way to train has to say; all else of the stage is the same for all of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.config.schema import Config
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.models.base_models import BaseModel, get_base_model
from stages.core.models.loading import get_model, get_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

    from stages.train.monitoring.training_progress import Journal


class Method(ABC):
    """Which model learns, from which examples, with which arguments and trainer."""

    task_type = "CAUSAL_LM"
    """As peft names it."""

    def __init__(self, config: Config, seed: int) -> None:
        """Fetch the files of the base model and load its tokenizer.

        Args:
            config: the whole configuration, whose `seed` chose rows and, where it is random, the base model.
            seed: of training: of the order of rows, of new weights and of dropout.
        """
        self.config = config
        self.seed = seed
        self.facts: dict[str, Any] = {}
        """What `training.json` says beyond what it says of every training."""
        self.replay: Path | None = None
        """The file of the replay rows that are mixed in, which goes beside the model."""
        self.base = self.get_base()
        self.tokenizer = self.get_tokenizer()

    @property
    def name(self) -> str:
        """Of the model that is trained."""
        return self.config.model.name

    def get_base(self) -> BaseModel:
        """The files of the model that is trained."""
        return get_base_model(self.config.model, self.config.seed)

    def get_tokenizer(self) -> Any:
        """Its tokenizer."""
        return get_tokenizer(self.base)

    def get_model(self) -> Any:
        """The model, before an adapter is added: weights that are trained themselves are float32, for an update of
        2e-5 is lost in bfloat16."""
        dtype = self.config.model.dtype if self.config.train.adapter else "float32"
        return get_model(self.base, dtype, self.config.train.quantization)

    @property
    @abstractmethod
    def arguments(self) -> type:
        """The class of `train.args`."""

    @property
    def ours(self) -> dict[str, Any]:
        """Arguments that this method sets itself, beside those of all methods."""
        return {}

    @abstractmethod
    def get_examples(self, records: Sequence[Record]) -> "Dataset":
        """One row a record or a piece of it: `row`, the record's place, `length` in tokens, and what the trainer wants.

        Raises:
            UserError: the records cannot be learned from, or are longer than the model's limit.
        """

    @abstractmethod
    def make_trainer(self, journal: "Journal", **common: Any) -> "Trainer":
        """The trainer, a `Resumable`.

        Args:
            journal: for the keyword of that name.
            common: `model`, `args`, `train_dataset`, `eval_dataset`, `processing_class`, `peft_config`.
        """

    def finish(self, folder: Path) -> None:  # noqa: B027  (most methods have nothing to add)
        """Add to the folder of the saved model."""

    def check_kinds(self, records: Sequence[Record]) -> None:
        """Raise a `UserError` for records of a kind that `train.kinds` does not name."""
        kinds = {record.kind for record in records} - set(self.config.train.kinds)
        if kinds:
            raise UserError(
                f"records of kind {', '.join(sorted(kinds))}: train.method={self.config.train.method} learns from "
                f"{', '.join(self.config.train.kinds)} (train.kinds)"
            )
