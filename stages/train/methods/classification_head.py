"""What methods have in common that put a head of labels on an encoder, or on the base model."""

import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from stages.core.config.schema import Config
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.models.base_models import BaseModel
from stages.core.models.classifier import HEADS, KINDS, Reading, get_limit, read_texts
from stages.core.models.encoders import get_encoder
from stages.core.models.loading import get_model, get_tokenizer
from stages.train.methods.base import Method
from stages.train.trainers.classification import LabelTrainer, add_adapter, silence

if TYPE_CHECKING:
    from datasets import Dataset

    from stages.train.monitoring.training_progress import Journal

log = logging.getLogger(__name__)
SAYINGS = {  # what is counted, as a warning says it
    "texts_cut": "texts are longer than {limit} tokens: what comes after them is not read",
    "unknown_labels": "rows have a label that no training row has: they are left out",
    "entities_lost": "entities are not in their text, or overlap with another one: they are not learned",
}


class Head(Method):
    """A model with a head of labels."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__(config, seed)
        self.labels: list[str] = []
        """In the order of the head; known when the training rows were read."""
        self.kept: dict[str, Any] = {}
        """What the model's `config.json` says beside them."""
        self.facts["labels"] = {}

    @property
    def name(self) -> str:
        """Of the model that is trained."""
        return (self.config.train.encoder or self.config.model).name

    def get_base(self) -> BaseModel:
        """The encoder, or the base model."""
        return get_encoder(self.config)

    def get_tokenizer(self) -> Any:
        """Its tokenizer, which need not know chats."""
        return get_tokenizer(self.base, chats=False)

    def get_model(self) -> Any:
        """It with a new head, drawn by the seed.

        Raises:
            UserError: it reads fewer tokens than `train.encoder.max_length`.
        """
        train = self.config.train
        numbers = {label: i for i, label in enumerate(self.labels)}
        quantization = train.quantization and {"llm_int8_skip_modules": HEADS, **train.quantization}
        others = {"label2id": numbers, "id2label": {i: label for label, i in numbers.items()}}
        others["pad_token_id"] = self.tokenizer.pad_token_id
        dtype = self.config.model.dtype if train.adapter else "float32"
        with torch.random.fork_rng(), silence():  # it says at length that the head is new
            torch.manual_seed(self.seed)
            model = get_model(self.base, dtype, quantization, KINDS[train.method], **others)
        for key, value in self.kept.items():
            setattr(model.config, key, value)
        self.settings = model.config
        self._check_limit()
        return model

    @property
    def arguments(self) -> type:
        """Those of transformers."""
        return transformers.TrainingArguments

    @property
    def ours(self) -> dict[str, Any]:
        """Under an adapter the trainer cannot see what the labels are called."""
        return {"label_names": ["labels"]}

    def get_examples(self, records: Sequence[Record]) -> "Dataset":
        """`input_ids`, `attention_mask` and `labels`. The first call has the training rows, which say what labels are.

        Raises:
            UserError: targets are no labels.
        """
        from datasets import Dataset

        self.check_kinds(records)
        split = "validation" if self.labels else "training"
        self.labels = self.labels or self.find_labels(records)
        found: Counter[str] = Counter()
        readings = read_texts(
            self.tokenizer, [record.question for record in records], get_limit(self.config)
        )
        rows: list[dict[str, Any]] = []
        for row, (record, reading) in enumerate(zip(records, readings, strict=True)):
            found["texts_cut"] += reading.cut
            labels = self.get_labels(record, reading, found)
            if labels is not None:
                ids = {"input_ids": reading.ids, "attention_mask": [1] * len(reading.ids)}
                rows.append({"row": row, **ids, "labels": labels, "length": len(reading.ids)})
        if not rows:
            raise UserError(
                f"no {split} row has a label that a training row has: give more rows, or split otherwise"
            )
        self._tell(split, found)
        return Dataset.from_list(rows)

    @abstractmethod
    def find_labels(self, records: Sequence[Record]) -> list[str]:
        """The labels of the head, out of the training rows.

        Raises:
            UserError: their targets are no labels.
        """

    @abstractmethod
    def get_labels(self, record: Record, reading: Reading, found: Counter[str]) -> Any:
        """Numbers of labels, of the text or of each token; None leaves the row out. `found` counts what goes wrong."""

    @abstractmethod
    def score(self, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """What validation is measured by beside the loss, from numbers of labels."""

    def make_trainer(self, journal: "Journal", **common: Any) -> LabelTrainer:
        """That of transformers, an adapter around the model where there is one."""
        model = common.pop("model")
        adapter = common.pop("peft_config")
        if adapter is not None:
            transformers.set_seed(self.seed)  # peft draws the adapter's weights
            quantized = bool(self.config.train.quantization)
            checkpointing = common["args"].gradient_checkpointing
            model = add_adapter(model, adapter, quantized, checkpointing)
        return LabelTrainer(
            journal=journal,
            model=model,
            data_collator=self.get_collator(),
            compute_metrics=lambda found: self.score(found.predictions, found.label_ids),
            preprocess_logits_for_metrics=lambda logits, _: logits.argmax(-1),
            **common,
        )

    @abstractmethod
    def get_collator(self) -> Any:
        """Pads the rows of a batch."""

    def finish(self, folder: Path) -> None:
        """Beside an adapter, what its labels are."""
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
        self.tokenizer.model_max_length = (
            limit  # as it is saved: whoever loads it cuts texts there too
        )

    def _tell(self, split: str, found: Counter[str]) -> None:
        self.facts["labels"] |= {"names": self.labels, split: dict(found)}
        for what, count in found.items():
            if count and what in SAYINGS:
                log.warning(
                    "%s: %d %s.", split, count, SAYINGS[what].format(limit=get_limit(self.config))
                )
