"""The interface of a training method. The rest of the stage is the same for all methods."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.config.schema import Config
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles, get_base_model
from stages.core.models.loading import CAUSAL, get_model, get_tokenizer
from stages.train.stored_examples import store_examples

LOSS_TOKENS = 512  # of a row, so that the logits of a large vocabulary take little memory

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import Trainer

    from stages.train.monitoring.training_progress import TrainingProgress


class Method(ABC):
    """A training method: the model, its examples, its training arguments and its trainer."""

    task_type = "CAUSAL_LM"
    """The name that peft gives the task."""
    model_class = CAUSAL
    """The auto class of transformers that loads the model."""

    def __init__(self, config: Config, seed: int) -> None:
        """Fetch the files of the base model and load its tokenizer.

        Args:
            config: The whole configuration. Its `seed` selected the rows and initialises a random
                base model.
            seed: The seed of training, for the order of rows, new weights and dropout.
        """
        self.config = config
        self.seed = seed
        self.metadata: dict[str, Any] = {}
        """The facts of this method that `training.json` has in addition to the common ones."""
        self.numbers: dict[str, Any] = {}
        """The headline numbers of this method in addition to the common ones."""
        self.replay: Path | None = None
        """The file of the replay rows in the training data, which is saved beside the model."""
        self.base = self.get_base()
        self.tokenizer = self.get_tokenizer()

    @property
    def name(self) -> str:
        """The name of the model that is trained."""
        return self.config.model.name

    def get_base(self) -> ModelFiles:
        """Return the files of the model that is trained."""
        return get_base_model(self.config.model, self.config.seed)

    def get_tokenizer(self) -> Any:
        """Load the tokenizer of the model."""
        return get_tokenizer(self.base)

    def get_model(self) -> Any:
        """Load the model without an adapter.

        Without an adapter the weights themselves are trained. They are then float32 by default,
        because an update of 2e-5 would be lost in bfloat16.
        """
        train = self.config.train
        dtype = self.config.model.dtype if train.adapter else train.trained_dtype
        return get_model(self.base, dtype, self.config.train.quantization)

    @property
    @abstractmethod
    def arguments(self) -> type:
        """Return the class of the training arguments in `train.args`."""

    @property
    def fixed_arguments(self) -> dict[str, Any]:
        """Return the arguments that this method sets in addition to those of all methods."""
        return {}

    def get_records(self, records: Sequence[Record], folder: Path) -> Sequence[Record]:
        """Return the records to learn from. Most methods take those of the data set.

        Args:
            records: The training records.
            folder: A folder that all processes of this training see.

        Raises:
            UserError: The method cannot get the records.
        """
        return records

    def get_examples(self, records: Sequence[Record], file: Path | None = None) -> "Dataset":
        """Create the training examples and store them.

        Args:
            records: The records.
            file: The file for the examples. None keeps them in memory.

        Raises:
            UserError: The method cannot learn from the records, or they exceed the model's limit.
        """
        return store_examples(self.make_examples(records), file)

    @abstractmethod
    def make_examples(self, records: Sequence[Record]) -> Iterator[dict[str, Any]]:
        """Yield the training examples, one row for each record or piece of a record.

        Each row has `row` (the position of the record), `length` (in tokens) and the columns that
        the trainer needs. Only `CHUNK` records are encoded at a time.

        Raises:
            UserError: The method cannot learn from the records, or they exceed the model's limit.
        """

    @abstractmethod
    def make_trainer(self, progress: "TrainingProgress", **common: Any) -> "Trainer":
        """Create the trainer, which has the `ResumableTrainerMixin`.

        Args:
            progress: The counters of the training, which the trainer updates.
            common: `model`, `args`, `train_dataset`, `eval_dataset`, `processing_class` and
                `peft_config`.
        """

    def get_row_ids(self, row: dict[str, Any]) -> list[int]:
        """Return the token ids of an example, with an answer if it has one."""
        return row["input_ids"]

    def get_row_targets(self, row: dict[str, Any]) -> list[bool]:
        """Return which of the tokens of `get_row_ids` the method learns.

        Most methods have no such tokens, and then every token counts.
        """
        return [True] * len(self.get_row_ids(row))

    def compute_row_loss(self, model: Any, row: dict[str, Any]) -> "torch.Tensor":
        """Compute a loss of one example that depends on the whole model, without its weights.

        This is the mean over the first `LOSS_TOKENS` tokens, in nats. It need not be the loss of
        training.
        """
        import torch

        ids = torch.tensor([self.get_row_ids(row)[:LOSS_TOKENS]], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        return loss / max(len(logits), 1)

    def load_saved(self, folder: Path) -> Any:
        """Load what was saved, as it was trained: an adapter is not merged.

        Args:
            folder: The folder with the adapter or with the whole model.
        """
        if self.config.train.adapter is None:
            files = ModelFiles(str(folder), None, None, self.base.trust_remote_code)
            return get_model(files, "float32", kind=self.model_class)
        from peft import PeftModel

        return PeftModel.from_pretrained(self.get_model(), str(folder)).eval()

    def finish(self, folder: Path) -> None:  # noqa: B027  (most methods have nothing to add)
        """Add the files of this method to the folder of the saved model."""

    def check_kinds(self, records: Sequence[Record]) -> None:
        """Check that `train.record_types` names the kind of every record.

        Raises:
            UserError: A record is of another kind.
        """
        kinds = {record.kind for record in records} - set(self.config.train.record_types)
        if kinds:
            raise UserError(
                f"records of kind {', '.join(sorted(kinds))}: "
                f"train.method={self.config.train.method} learns from "
                f"{', '.join(self.config.train.record_types)} (train.record_types)"
            )
