"""The canonical record that every stage after `prepare` reads.

Its JSON Schema is `record.schema.json`.
"""

import os
import weakref
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, overload

import numpy as np
import orjson

from stages.core.config.base import Kind
from stages.core.storage.files import open_output, read_jsonl, sha256_json

Message = dict[str, Any]
PREPARED = Path("data/prepared")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a data set.

    In every kind except `prompt` the last message has the role `assistant` and is the target.
    """

    id: str
    """The first 16 hex digits of the SHA-256 of the content. The id does not change when rows are
    added or moved."""
    messages: list[Message]
    """Each message has `role` (system, user, assistant, tool) and `content`, and optionally
    `tool_calls`, `name`, `weight`, …"""
    kind: Kind = "chat"
    """A `text` is prose without a chat template, in a single message. A `prompt` has no target."""
    tools: list[dict[str, Any]] = field(default_factory=list)
    """Definitions of the functions that may be called."""
    rejected: Message | None = None
    """The worse answer to the same prompt, only for the kind `preference`."""
    desirable: bool | None = None
    """Whether the target is desirable, only for the kind `unpaired`."""
    meta: dict[str, Any] = field(default_factory=dict)
    """`label`, `group`, `cluster` (of near-duplicates), and under `columns` the columns that
    `data.metadata_columns` names. They are not part of the content."""

    @classmethod
    def of(
        cls, messages: list[Message], *, meta: dict[str, Any] | None = None, **content: Any
    ) -> "Record":
        """Make a record, with its id, from its content.

        Args:
            messages: The messages of the record.
            meta: What is not part of the content.
            content: Other fields of the content (`kind`, `tools`, `rejected`, `desirable`).
        """
        given = {name: value for name, value in content.items() if value not in (None, [], "chat")}
        digest = sha256_json({"messages": messages, **given} if given else messages)
        return cls(digest[:16], messages, meta=meta or {}, **given)

    @property
    def prompt(self) -> list[Message]:
        """The messages before the target, or all messages if there is no target."""
        return self.messages if self.kind == "prompt" else self.messages[:-1]

    @property
    def question(self) -> str:
        """The text of the prompt without system messages, or of these if there are no others."""
        asked = [message["content"] for message in self.prompt if message["role"] != "system"]
        return "\n".join(asked or [message["content"] for message in self.prompt])

    @property
    def target(self) -> str:
        """The text that the model should answer. Tool calls are given as JSON."""
        last = self.messages[-1]
        return last["content"] or orjson.dumps(last.get("tool_calls", [])).decode()

    def dump(self) -> bytes:
        """Write the record as one line of JSON without empty fields."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {
            name: value
            for name, value in values.items()
            if value is not None and value not in ({}, [])
        }
        return orjson.dumps(kept, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def load(cls, line: bytes) -> "Record":
        """Read a record from a line that `dump` wrote."""
        return cls(**orjson.loads(line))


def read_records(split: str, path: Path | None = None) -> list[Record]:
    """Read the records of a prepared split (`train`, `validation`, `test`) in the file's order.

    Args:
        split: The split.
        path: The file of the split if it is not in `data/prepared`, such as in DVC's cache.

    Raises:
        UserError: `prepare` has not run.
    """
    return [Record(**row) for row in read_jsonl(path or PREPARED / f"{split}.jsonl")]


class RecordFile(Sequence[Record]):
    """Records in a file, each of which is read when it is needed.

    A record takes 16 bytes here. As a Python object it takes a kilobyte and its texts.
    """

    def __init__(self, file: int, places: np.ndarray) -> None:
        """Name the file and the lines.

        Args:
            file: The descriptor of the open file, which the caller may close.
            places: The first byte of each line and its number of bytes, of shape (records, 2).
        """
        self._file = os.dup(file)
        self._places = places
        weakref.finalize(self, os.close, self._file)

    @classmethod
    def open(cls, path: Path) -> "RecordFile":
        """Find the records in a file of JSON lines.

        Raises:
            UserError: The file does not exist, so the stage that writes it has not run.
        """
        places = array("q")
        with open_output(path) as file:
            start = 0
            for line in file:
                if line.strip():
                    places.extend((start, len(line)))
                start += len(line)
            return cls(file.fileno(), np.array(places, dtype=np.int64).reshape(-1, 2))

    def select(self, positions: Sequence[int]) -> "RecordFile":
        """Return the records at these positions, in this order."""
        return RecordFile(self._file, self._places[np.array(positions, dtype=np.int64)])

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        """Read a record, or the records of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, size = self._places[index].tolist()
        # Unlike `seek`, this also works in processes that share the open file.
        return Record.load(os.pread(self._file, size, start))

    def __iter__(self) -> Iterator[Record]:
        """Read the records in the file's order."""
        return (self[i] for i in range(len(self)))
