"""Classification of texts and of the words in a text."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from stages.core.config.schema import Config
from stages.core.data.entities import (
    NO_ENTITIES,
    OUTSIDE,
    Entity,
    align,
    find_kinds,
    find_tokens,
    get_spans,
    get_words,
    list_entities,
)
from stages.core.data.label_lists import find_form, order_labels, read_labels
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.models.classifier import MULTI_LABEL, Reading, choose_labels
from stages.train.examples import IGNORED
from stages.train.methods.classification_head import Head

log = logging.getLogger(__name__)
# If more than this share of the rows have a target of their own, the targets are free text.
ALONE = 0.5
SHOWN = 60  # characters of a target that a message shows


class SequenceClassification(Head):
    """Classification of whole texts, where the target of a row is its label."""

    task_type = "SEQ_CLS"

    def find_labels(self, records: Sequence[Record]) -> list[str]:
        """Return the different targets in alphabetical order."""
        counts = Counter(record.target for record in records)
        alone = [label for label, count in counts.items() if count == 1]
        first = f"{records[0].target!r:.{SHOWN}}"
        if len(counts) == 1:
            raise UserError(
                f"train.method=sequence-classification: all training rows have the label {first}; "
                "classification needs at least two labels"
            )
        if len(alone) > ALONE * len(records):
            raise UserError(
                f"train.method=sequence-classification: {len(alone)} of {len(records)} training "
                "rows have a target that no other row has, such as "
                f"{alone[0]!r:.{SHOWN}}. These targets are free text and not labels. Choose "
                "another method, such as train=lora."
            )
        return sorted(counts)

    def get_labels(self, record: Record, reading: Reading, found: Counter[str]) -> int | None:
        """Return the number of the label, or None for a label that no training row has."""
        if record.target not in self.labels:
            found["unknown_labels"] += 1
            return None
        return self.labels.index(record.target)

    def score(self, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return `accuracy`, the share of labels that are right."""
        return {"accuracy": float((predicted == labels).mean())}

    def get_collator(self) -> Any:
        """Return the padding collator of transformers."""
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(self.tokenizer)


class MultiLabelClassification(SequenceClassification):
    """Classification of whole texts, where the target of a row lists any number of labels.

    `stages.core.data.label_lists` describes the form of the list.
    """

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__(config, seed)
        self.problem = {"problem_type": MULTI_LABEL}

    def find_labels(self, records: Sequence[Record]) -> list[str]:
        """Return the different labels in the order in which most targets list them."""
        lists = [self._read(record) for record in records]
        counts = Counter(label for labels in lists for label in labels)
        if not counts or all(len(labels) == len(counts) for labels in lists):
            raise UserError(
                "train.label_separator: all training rows list the same labels, such as "
                f"{records[0].target!r:.{SHOWN}}; classification needs rows that differ"
            )
        rare = [labels for labels in lists if any(counts[label] == 1 for label in labels)]
        if len(rare) > ALONE * len(records):
            raise UserError(
                f"train.label_separator: {len(rare)} of {len(records)} training rows list a label "
                f"that no other row has, such as {rare[0]!r:.{SHOWN}}. These targets are free "
                "text and not labels. Choose another method, such as train=lora."
            )
        if all(len(labels) <= 1 for labels in lists):
            log.warning(
                "No training row lists two labels. train.label_separator=null learns one for each."
            )
        form = find_form([record.target for record in records], self._separator)
        self.kept["label_form"] = asdict(form)
        self.metadata["labels"] |= {"several": True, "always": form.nothing is None}
        return order_labels(lists)

    def get_labels(self, record: Record, reading: Reading, found: Counter[str]) -> Any:
        """Return 1.0 for each label of the target and 0.0 for each other one.

        A row with a label that no training row has gives None.
        """
        labels = set(self._read(record))
        if not labels <= set(self.labels):
            found["unknown_labels"] += 1
            return None
        return [float(label in labels) for label in self.labels]

    def decide(self, logits: torch.Tensor) -> torch.Tensor:
        """Return which labels are chosen, of shape (texts, labels)."""
        return choose_labels(logits, self.kept["label_form"]["nothing"] is None)

    def score(self, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return `f1` over the labels of all rows, and the share of rows that are right."""
        wanted = labels > 0
        right = float((predicted & wanted).sum())
        listed = float(predicted.sum() + wanted.sum())
        return {
            "f1": 2 * right / listed if listed else 1.0,
            "accuracy": float((predicted == wanted).all(-1).mean()),
        }

    @property
    def _separator(self) -> str:
        return str(self.config.train.label_separator)

    def _read(self, record: Record) -> list[str]:
        return read_labels(record.target, self._separator)


class TokenClassification(Head):
    """Classification of words, where the target of a row lists the entities in its text.

    `stages.core.data.entities` describes the format of the list.
    """

    task_type = "TOKEN_CLS"

    def find_labels(self, records: Sequence[Record]) -> list[str]:
        """Return the tags O and, for each type of entity, B-TYPE and I-TYPE."""
        self._kinds = {
            kind.lower(): kind for kind in find_kinds(record.target for record in records)
        }
        if not self._kinds:
            raise UserError(
                "train.method=token-classification: no training target lists entities as "
                "[NAME - TYPE, NAME - TYPE]. The first target is "
                f"{records[0].target!r:.{SHOWN}}. Choose another method, such as train=lora."
            )
        empty = Counter(
            record.target for record in records if not list_entities(record.target, self._kinds)
        )
        self.kept["no_entities"] = empty.most_common(1)[0][0] if empty else NO_ENTITIES
        return [OUTSIDE, *(f"{mark}-{kind}" for kind in self._kinds.values() for mark in "BI")]

    def get_labels(self, record: Record, reading: Reading, found: Counter[str]) -> list[int]:
        """Return the number of each word's tag at its first token, and `IGNORED` elsewhere."""
        listed = list_entities(record.target, self._kinds)
        entities = [Entity(name, self._kinds[kind.lower()]) for name, kind in listed]
        words = get_words(record.question)
        tags, lost = align(record.question, words, entities)
        found["entities"] += len(entities)
        found["entities_lost"] += lost
        labels = [IGNORED] * len(reading.ids)
        for token, tag in reversed(
            list(zip(find_tokens(words, reading.offsets), tags, strict=True))
        ):
            if token is not None:
                labels[token] = self.labels.index(tag)
        return labels

    def score(self, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return `f1` over entities, whose words and type must both be right (CoNLL-2003)."""
        right = claimed = wanted = 0
        for row, target in zip(predicted, labels, strict=True):
            counts = target != IGNORED
            ours, theirs = (
                set(get_spans([self.labels[i] for i in tags[counts]])) for tags in (row, target)
            )
            right = right + len(ours & theirs)
            claimed = claimed + len(ours)
            wanted = wanted + len(theirs)
        return {"f1": 2 * right / (claimed + wanted) if claimed + wanted else 1.0}

    def get_collator(self) -> Any:
        """Return the collator of transformers that also pads labels."""
        from transformers import DataCollatorForTokenClassification

        return DataCollatorForTokenClassification(self.tokenizer)
