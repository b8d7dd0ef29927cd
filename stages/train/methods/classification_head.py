"""The common part of methods that train a classification head on an encoder or the base model."""

import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from stages.core.config.schema import Config
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles
from stages.core.models.classifier import HEADS, MODEL_CLASSES, Reading, get_limit, read_texts
from stages.core.models.encoders import get_encoder
from stages.core.models.loading import get_model, get_tokenizer
from stages.train.methods.base import Method
from stages.train.stored_examples import in_chunks
from stages.train.trainers.classification import LabelTrainer, add_adapter

if TYPE_CHECKING:
    from stages.train.monitoring.training_progress import TrainingProgress

log = logging.getLogger(__name__)
SAYINGS = {
    "texts_cut": "texts are longer than {limit} tokens and were cut there",
    "unknown_labels": "rows have a label that no training row has and are left out",
    "entities_lost": (
        "entities are not in their text or overlap with another entity, and are not learned"
    ),
}
"""The text of the warning for each kind of problem that is counted."""


class Head(Method):
    """A method that trains a model with a classification head."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__(config, seed)
        self.model_class = MODEL_CLASSES[config.train.method]
        self.labels: list[str] = []
        """The labels in the order of the head. They are known once the training rows are read."""
        self.kept: dict[str, Any] = {}
        """The further values that are saved in the model's `config.json`."""
        self.problem: dict[str, str] = {}
        """The `problem_type` of transformers, if it does not follow from the labels."""
        self.metadata["labels"] = {}

    @property
    def name(self) -> str:
        """The name of the model that is trained."""
        return (self.config.train.encoder or self.config.model).name

    def get_base(self) -> ModelFiles:
        """Return the files of the encoder, or of the base model if there is no encoder."""
        return get_encoder(self.config)

    def get_tokenizer(self) -> Any:
        """Load the tokenizer, which needs no chat template."""
        return get_tokenizer(self.base, chats=False)

    def get_model(self) -> Any:
        """Load the model with a new classification head, initialised from the seed.

        Raises:
            UserError: The model reads fewer tokens than the configured maximum length.
        """
        train = self.config.train
        numbers = {label: i for i, label in enumerate(self.labels)}
        quantization = train.quantization and {"llm_int8_skip_modules": HEADS, **train.quantization}
        others: dict[str, Any] = {
            "label2id": numbers,
            "id2label": {i: label for label, i in numbers.items()},
        }
        others |= self.problem
        others["pad_token_id"] = self.tokenizer.pad_token_id
        dtype = self.config.model.dtype if train.adapter else train.trained_dtype
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = get_model(self.base, dtype, quantization, self.model_class, **others)
        for key, value in self.kept.items():
            setattr(model.config, key, value)
        self.settings = model.config
        self._check_limit()
        return model

    @property
    def arguments(self) -> type:
        """Return the class of the training arguments of transformers."""
        return transformers.TrainingArguments

    @property
    def fixed_arguments(self) -> dict[str, Any]:
        """Name the column of the labels, which the trainer cannot find under an adapter."""
        return {"label_names": ["labels"]}

    def make_examples(self, records: Sequence[Record]) -> Iterator[dict[str, Any]]:
        """Yield examples with `input_ids`, `attention_mask` and `labels`.

        The first call must be with the training rows, because it collects the labels.

        Raises:
            UserError: The targets are not labels, or no row has a known label.
        """
        self.check_kinds(records)
        split = "validation" if self.labels else "training"
        self.labels = self.labels or self.find_labels(records)
        found: Counter[str] = Counter()
        examples = 0
        for row, (record, reading) in enumerate(self._read_records(records)):
            found["texts_cut"] += reading.cut
            labels = self.get_labels(record, reading, found)
            if labels is not None:
                examples += 1
                ids = {"input_ids": reading.ids, "attention_mask": [1] * len(reading.ids)}
                yield {"row": row, **ids, "labels": labels, "length": len(reading.ids)}
        if not examples:
            raise UserError(
                f"no {split} row has a label that a training row has. Provide more rows or change "
                "the split."
            )
        self._tell(split, found)

    def _read_records(self, records: Sequence[Record]) -> Iterator[tuple[Record, Reading]]:
        limit = get_limit(self.config)
        for chunk in in_chunks(records):
            texts = [record.question for record in chunk]
            yield from zip(chunk, read_texts(self.tokenizer, texts, limit), strict=True)

    @abstractmethod
    def find_labels(self, records: Sequence[Record]) -> list[str]:
        """Collect the labels of the head from the training rows.

        Raises:
            UserError: The targets are not labels.
        """

    @abstractmethod
    def get_labels(self, record: Record, reading: Reading, found: Counter[str]) -> Any:
        """Return the number of the text's label, or one number for each token.

        Args:
            record: The record, whose target has the labels.
            reading: The tokens of its text.
            found: Counters of problems, which this method increments.

        Returns:
            The numbers, or None if the row must be left out.
        """

    @abstractmethod
    def score(self, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Compute the validation metrics other than the loss, from the numbers of labels."""

    def make_trainer(self, progress: "TrainingProgress", **common: Any) -> LabelTrainer:
        """Create the trainer, and add the adapter to the model if one is configured."""
        model = common.pop("model")
        adapter = common.pop("peft_config")
        if adapter is not None:
            transformers.set_seed(self.seed)  # peft draws the adapter's weights
            quantized = bool(self.config.train.quantization)
            checkpointing = common["args"].gradient_checkpointing
            model = add_adapter(model, adapter, quantized, checkpointing)
        return LabelTrainer(
            progress=progress,
            model=model,
            data_collator=self.get_collator(),
            compute_metrics=lambda found: self.score(found.predictions, found.label_ids),
            preprocess_logits_for_metrics=lambda logits, _: self.decide(logits),
            **common,
        )

    def compute_row_loss(self, model: Any, row: dict[str, Any]) -> torch.Tensor:
        """Compute the mean loss of the labels."""
        ids = torch.tensor([row["input_ids"]], device=model.device)
        labels = torch.tensor([row["labels"]], device=model.device)
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss

    def decide(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the answers of a batch, which `score` takes: the number of the likeliest label."""
        return logits.argmax(-1)

    @abstractmethod
    def get_collator(self) -> Any:
        """Return a collator that pads the rows of a batch."""

    def finish(self, folder: Path) -> None:
        """Save the configuration of the model, which has the labels, beside an adapter."""
        if self.config.train.adapter:
            settings = self.settings.to_dict()
            settings.pop("quantization_config", None)
            type(self.settings)(**settings).save_pretrained(folder)

    def _check_limit(self) -> None:
        limit = get_limit(self.config)
        most = min(
            getattr(self.settings, "max_position_embeddings", limit),
            self.tokenizer.model_max_length,
        )
        if limit > most:
            key = "train.encoder.max_length" if self.config.train.encoder else "model.max_length"
            raise UserError(f"{key}: {self.name} reads at most {most} tokens, got {limit}")
        # The limit is saved with the tokenizer, so that whoever loads it cuts texts there too.
        self.tokenizer.model_max_length = limit

    def _tell(self, split: str, found: Counter[str]) -> None:
        self.metadata["labels"] |= {"names": self.labels, split: dict(found)}
        for what, count in found.items():
            if count and what in SAYINGS:
                log.warning(
                    "%s: %d %s.", split, count, SAYINGS[what].format(limit=get_limit(self.config))
                )
