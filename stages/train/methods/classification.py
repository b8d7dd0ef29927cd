"""Classification of texts, and of their words."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

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
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.models.classifier import Reading
from stages.train.examples import IGNORED
from stages.train.methods.classification_head import Head

ALONE = 0.5  # of the rows with a target that no other row has, from which targets are free text
SHOWN = 60  # characters of a target in a message


class Classify(Head):
    """One label a text: the target."""

    task_type = "SEQ_CLS"

    def find_labels(self, records: Sequence[Record]) -> list[str]:
        """The targets."""
        counts = Counter(record.target for record in records)
        alone = [label for label, count in counts.items() if count == 1]
        first = f"{records[0].target!r:.{SHOWN}}"
        if len(counts) == 1:
            raise UserError(
                f"train.method=classify: every training row has the label {first}; give rows of another"
            )
        if len(alone) > ALONE * len(records):
            raise UserError(
                f"train.method=classify: {len(alone)} of {len(records)} training rows have a target that no other row "
                f"has, such as {alone[0]!r:.{SHOWN}}: free text, no labels. Choose another method, such as train=lora"
            )
        return sorted(counts)

    def get_labels(self, record: Record, reading: Reading, found: Counter[str]) -> int | None:
        """The number of the label."""
        if record.target not in self.labels:
            found["unknown_labels"] += 1
            return None
        return self.labels.index(record.target)

    def score(self, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """`accuracy`."""
        return {"accuracy": float((predicted == labels).mean())}

    def get_collator(self) -> Any:
        """That of transformers."""
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(self.tokenizer)


class Tag(Head):
    """A tag for each word: the target lists the entities of the text as `stages.core.data.entities` has it."""

    task_type = "TOKEN_CLS"

    def find_labels(self, records: Sequence[Record]) -> list[str]:
        """Where entities of each type begin and go on, and all else."""
        self._kinds = {
            kind.lower(): kind for kind in find_kinds(record.target for record in records)
        }
        if not self._kinds:
            raise UserError(
                f"train.method=tag: no training target lists entities as [NAME - TYPE, NAME - TYPE]; the first one is "
                f"{records[0].target!r:.{SHOWN}}. Choose another method, such as train=lora"
            )
        empty = Counter(
            record.target for record in records if not list_entities(record.target, self._kinds)
        )
        self.kept["no_entities"] = empty.most_common(1)[0][0] if empty else NO_ENTITIES
        return [OUTSIDE, *(f"{mark}-{kind}" for kind in self._kinds.values() for mark in "BI")]

    def get_labels(self, record: Record, reading: Reading, found: Counter[str]) -> list[int]:
        """The number of each word's tag at its first token; the other tokens do not count."""
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
        """`f1` of entities: those whose words and type are right (CoNLL-2003)."""
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
        """That of transformers."""
        from transformers import DataCollatorForTokenClassification

        return DataCollatorForTokenClassification(self.tokenizer)
