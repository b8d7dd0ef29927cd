"""The training rows most similar to a row: by their words or by their meaning. The index is of training rows alone."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from stages.baseline.words import get_terms
from stages.core.config.data import WheelSource
from stages.core.config.prompt import EmbeddingRetriever, PromptConfig
from stages.core.data.records import Record
from stages.core.storage.wheels import get_member

if TYPE_CHECKING:
    import torch

BATCH = 64  # questions embedded at once


class Retriever(Protocol):
    """An index of solved rows."""

    def search(self, records: Sequence[Record], k: int) -> list[list[Record]]:
        """For each record, its `k` most similar training rows, the most similar last: nearest to the question."""


def get_retriever(prompt: PromptConfig, train: Sequence[Record]) -> Retriever:
    """The configured one."""
    settings = prompt.retriever
    return Meaning(settings, train) if isinstance(settings, EmbeddingRetriever) else Words(train)


class Words:
    """BM25 over the questions (Robertson and Zaragoza, 2009)."""

    def __init__(self, train: Sequence[Record]) -> None:
        import bm25s

        logging.getLogger("bm25s").setLevel(
            logging.ERROR
        )  # it warns of a question that has no word of the index
        self._train = train
        self._index = bm25s.BM25()
        self._index.index([_get_terms(record) for record in train], show_progress=False)

    def search(self, records: Sequence[Record], k: int) -> list[list[Record]]:
        """As `Retriever` says."""
        queries = [_get_terms(record) for record in records]
        found = self._index.retrieve(
            queries, k=min(k, len(self._train)), return_as="documents", show_progress=False
        )
        return [[self._train[i] for i in row[::-1]] for row in found]


def _get_terms(record: Record) -> list[str]:
    """Of the question; one that no text has where it has none, for the index takes no empty lists."""
    return get_terms(record.question) or [""]


class Meaning:
    """Cosine similarity of sentence embeddings (Reimers and Gurevych, "Sentence-BERT", 2019)."""

    def __init__(self, settings: EmbeddingRetriever, train: Sequence[Record]) -> None:
        from transformers import AutoModel, AutoTokenizer

        source = settings.source
        if isinstance(source, WheelSource):
            path = str(get_member(source))
            arguments = {}
        else:
            path = source.id
            arguments = {"revision": source.revision, "trust_remote_code": source.trust_remote_code}
        self._tokenizer = AutoTokenizer.from_pretrained(path, **arguments)
        self._model = AutoModel.from_pretrained(path, **arguments).eval()
        self._max_length = settings.max_length
        self._train = train
        self._index = self._embed(train)

    def search(self, records: Sequence[Record], k: int) -> list[list[Record]]:
        """As `Retriever` says."""
        nearest = (
            (self._embed(records) @ self._index.T).topk(min(k, len(self._train))).indices.tolist()
        )
        return [[self._train[i] for i in row[::-1]] for row in nearest]

    def _embed(self, records: Sequence[Record]) -> "torch.Tensor":
        """Unit vectors of shape (records, width)."""
        import torch

        texts = [record.question for record in records]
        order = sorted(
            range(len(texts)), key=lambda i: len(texts[i])
        )  # like lengths go together: little padding
        limits = {"padding": True, "truncation": True, "max_length": self._max_length}
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
