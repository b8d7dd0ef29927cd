"""Classifiers: the labels of texts with their scores."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from stages.core.data.records import Record
from stages.core.inference.classifying import choose_from, get_logits, get_writer
from stages.core.models.classifier import MULTI_LABEL, Reading, read_texts
from stages.core.models.generation import batches

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_TOKENS = 16384  # of a batch, padding included, as in conf/model


class Classifier:
    """A model with a classification head."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        method: str,
        limit: int,
    ) -> None:
        """Take the model, its training method, and how many tokens of a text it reads."""
        self._model = model
        self._tokenizer = tokenizer
        self._tags = method == "token-classification"
        self._several = model.config.problem_type == MULTI_LABEL
        self._write = get_writer(method, self._several)
        self._limit = limit
        self._thread = ThreadPoolExecutor(1, "classify")

    async def classify(self, texts: list[str]) -> list[dict[str, Any]]:
        """Classify texts.

        Returns:
            For each text:

            - `answer`: What evaluation has read.
            - `tokens`: How many tokens were read.
            - `cut`: Whether the text was longer than the limit and was cut.
            - `labels`: The chosen labels, if the model labels whole texts.
            - `scores`: The probability of each label, if the model labels whole texts.
            - `tags`: The tagged tokens with `text`, `start`, `end`, `label` and `score`, if the
              model labels words. A tag that says that a token is no entity is left out.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._classify, texts)

    def is_alive(self) -> bool:
        """Return whether the model answers, which it always does."""
        return True

    def stop(self) -> None:
        """Stop the thread of the model."""
        self._thread.shutdown()

    def _classify(self, texts: list[str]) -> list[dict[str, Any]]:
        readings = read_texts(self._tokenizer, texts, self._limit)
        found: dict[int, dict[str, Any]] = {}
        for rows in batches([len(reading.ids) for reading in readings], BATCH_TOKENS):
            logits = get_logits(self._model, self._tokenizer, [readings[i] for i in rows])
            chosen = choose_from(self._model, logits)
            for i, row, choice in zip(rows, logits, chosen, strict=True):
                found[i] = self._describe(texts[i], readings[i], row, choice)
        return [found[i] for i in range(len(texts))]

    def _describe(
        self, text: str, reading: Reading, logits: "torch.Tensor", choice: Any
    ) -> dict[str, Any]:
        record = Record.of([{"role": "user", "content": text}], kind="prompt")
        described = {
            "answer": self._write(self._model.config, record, reading, choice),
            "tokens": len(reading.ids),
            "cut": reading.cut,
        }
        names = self._model.config.id2label
        logits = logits.float()
        scores = logits.sigmoid() if self._several else logits.softmax(-1)
        if self._tags:
            return described | {"tags": _list_tags(text, reading, scores, choice, names)}
        labels = [names[label] for label in (choice if self._several else [choice])]
        return described | {
            "labels": labels,
            "scores": {names[i]: score for i, score in enumerate(scores.tolist())},
        }


def _list_tags(
    text: str, reading: Reading, scores: "torch.Tensor", choice: list[int], names: dict[int, str]
) -> list[dict[str, Any]]:
    return [
        {
            "text": text[start:end],
            "start": start,
            "end": end,
            "label": names[label],
            "score": float(row[label]),
        }
        for (start, end), label, row in zip(reading.offsets, choice, scores, strict=False)
        if end > start and names[label] != "O"
    ]
