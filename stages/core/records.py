"""The canonical record, which every stage after `prepare` reads."""

from dataclasses import dataclass
from pathlib import Path

from stages.core.files import read_jsonl, sha256_json

Message = dict[str, str]
PREPARED = Path("data/prepared")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """One chat whose last message, of role `assistant`, is the target."""

    id: str
    """16 hex digits of the SHA-256 of `messages`: stable when rows are added or moved."""
    messages: list[Message]

    @classmethod
    def of(cls, messages: list[Message]) -> "Record":
        """The record of these messages."""
        return cls(sha256_json(messages)[:16], messages)

    @property
    def prompt(self) -> list[Message]:
        """The messages before the target."""
        return self.messages[:-1]

    @property
    def target(self) -> str:
        """The text that the model should answer."""
        return self.messages[-1]["content"]


def read_records(split: str) -> list[Record]:
    """The records of a prepared split (`train`, `validation`, `test`), in the file's order.

    Raises:
        UserError: `prepare` has not run.
    """
    return [Record(**row) for row in read_jsonl(PREPARED / f"{split}.jsonl")]
