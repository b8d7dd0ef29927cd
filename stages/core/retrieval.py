"""The training rows most similar to a row, by BM25."""

import logging
from collections.abc import Sequence

import bm25s

from stages.core.records import Record

logging.getLogger("bm25s").setLevel(logging.ERROR)  # it warns of every question that has no word of the index


class Retriever:
    """A BM25 index over the text of the training prompts."""

    def __init__(self, train: Sequence[Record]) -> None:
        self._train = train
        self._index = bm25s.BM25()
        self._index.index(bm25s.tokenize([_text(record) for record in train], show_progress=False), show_progress=False)

    def search(self, records: Sequence[Record], k: int) -> list[list[Record]]:
        """For each record, its `k` most similar training rows, the most similar last: nearest to the question."""
        queries = bm25s.tokenize([_text(record) for record in records], show_progress=False)
        found = self._index.retrieve(queries, k=min(k, len(self._train)), return_as="documents", show_progress=False)
        return [[self._train[i] for i in row[::-1]] for row in found]


def _text(record: Record) -> str:
    return "\n".join(message["content"] for message in record.prompt if message["role"] != "system")
