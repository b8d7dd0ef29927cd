"""Find the training rows most similar to a row, by BM25 or by sentence embeddings.

The index holds training rows alone.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from stages.baseline.words import get_terms
from stages.core.config.data import WheelSource
from stages.core.config.prompt import EmbeddingRetriever, PromptConfig
from stages.core.data.records import Record
from stages.core.models.base_models import ModelFiles, get_hub_model
from stages.core.storage.wheels import get_member

if TYPE_CHECKING:
    import torch

BATCH = 64  # questions embedded at once


class Retriever(Protocol):
    """An index of training rows."""

    def search(self, records: Sequence[Record], k: int) -> list[list[Record]]:
        """Return the `k` most similar training rows of each record.

        The most similar row comes last, so that it stands next to the question in the prompt.
        """


def get_retriever(prompt: PromptConfig, train: Sequence[Record]) -> Retriever:
    """Build the configured retriever over the training split."""
    settings = prompt.retriever
    return (
        EmbeddingIndex(settings, train)
        if isinstance(settings, EmbeddingRetriever)
        else BM25Index(train)
    )


class BM25Index:
    """BM25 over the questions (Robertson and Zaragoza, 2009)."""

    def __init__(self, train: Sequence[Record]) -> None:
        import bm25s

        # bm25s warns of each question that has no word of the index.
        logging.getLogger("bm25s").setLevel(logging.ERROR)
        self._train = train
        self._index = bm25s.BM25()
        self._index.index([_get_terms(record) for record in train], show_progress=False)

    def search(self, records: Sequence[Record], k: int) -> list[list[Record]]:
        """Return the `k` training rows with the highest BM25 scores, the best one last."""
        queries = [_get_terms(record) for record in records]
        found = self._index.retrieve(
            queries, k=min(k, len(self._train)), return_as="documents", show_progress=False
        )
        return [[self._train[i] for i in row[::-1]] for row in found]


def _get_terms(record: Record) -> list[str]:
    """Return the terms of the question, or one empty term because bm25s rejects empty lists."""
    return get_terms(record.question) or [""]


class EmbeddingIndex:
    """Cosine similarity of sentence embeddings (Reimers and Gurevych, "Sentence-BERT", 2019)."""

    def __init__(self, settings: EmbeddingRetriever, train: Sequence[Record]) -> None:
        from transformers import AutoModel, AutoTokenizer

        source = settings.source
        if isinstance(source, WheelSource):
            files = ModelFiles(str(get_member(source)), None, None)
        else:
            files = get_hub_model(source, "prompt.retriever.source.id")
        self._tokenizer = AutoTokenizer.from_pretrained(files.path, **files.arguments)
        self._model = AutoModel.from_pretrained(
            files.path, use_safetensors=True, **files.arguments
        ).eval()
        self._max_length = settings.max_length
        self._train = train
        self._index = self._embed(train)

    def search(self, records: Sequence[Record], k: int) -> list[list[Record]]:
        """Return the `k` training rows with the highest cosine similarity, the best one last."""
        nearest = (
            (self._embed(records) @ self._index.T).topk(min(k, len(self._train))).indices.tolist()
        )
        return [[self._train[i] for i in row[::-1]] for row in nearest]

    def _embed(self, records: Sequence[Record]) -> "torch.Tensor":
        """Embed the questions as unit vectors of shape (records, width)."""
        import torch

        texts = [record.question for record in records]
        # Texts of similar length share a batch, which keeps the padding small.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        limits = {
            "padding": True,
            "truncation": True,
            "max_length": self._max_length,
            "split_special_tokens": True,  # such as [SEP] in a question, which is text there
        }
        vectors: list[torch.Tensor] = [torch.empty(0)] * len(texts)
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                rows = order[start : start + BATCH]
                inputs = self._tokenizer([texts[i] for i in rows], return_tensors="pt", **limits)
                states = self._model(**inputs).last_hidden_state
                mask = inputs["attention_mask"].unsqueeze(-1)
                means = (states * mask).sum(1) / mask.sum(1)
                for i, vector in zip(
                    rows, torch.nn.functional.normalize(means, dim=-1), strict=True
                ):
                    vectors[i] = vector
        return torch.stack(vectors)
