"""Hashes by which rows are compared without their texts, in 33 bytes per row."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from stages.core.data.records import Record
from stages.prepare.similarity.duplicates import normalised
from stages.prepare.split import get_split_key


class RowHashes:
    """Holds the hashes of all rows, in the order in which they are added."""

    def __init__(self, rows: int) -> None:
        """Make room for this number of rows."""
        self.ids = np.zeros(rows, np.uint64)
        """The ids of the records as numbers."""
        self.keys = np.zeros(rows, np.uint64)
        """The group or, for a row without a group, the question (`get_split_key`)."""
        self.grouped = np.zeros(rows, bool)
        """Whether the data names the group of the row."""
        self.questions = np.zeros(rows, np.uint64)
        """The prompt without system messages; the whole content of a row without a prompt."""
        self.systems = np.zeros(rows, np.uint64)
        """The system messages of a prompt that has other messages too, or 0."""
        self._taken = 0

    def add(self, records: Sequence[Record]) -> None:
        """Add the next records."""
        for row, record in enumerate(records, start=self._taken):
            prompt = record.prompt or record.messages
            asked = [message for message in prompt if message["role"] != "system"]
            system = [message for message in prompt if message["role"] == "system"]
            self.ids[row] = int(record.id, 16)
            self.keys[row] = _hash(get_split_key(record))
            self.grouped[row] = "group" in record.meta
            self.questions[row] = _hash(normalised(asked or system))
            self.systems[row] = _hash(normalised(system)) if asked and system else 0
        self._taken += len(records)


def _hash(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest())
