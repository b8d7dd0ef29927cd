"""Find rows that are equal, exactly or except for case, spacing and compatible characters."""

from hashlib import blake2b
from unicodedata import normalize

from stages.core.data.records import SPLITS, Message, Record
from stages.core.data.unicode_text import shorten_marks
from stages.prepare.findings import Finding

LONG = 50_000
"""The characters of a chat up to which compatible characters are equal.

NFKC makes up to 18 characters of one and takes a microsecond for each, so that 1 MB takes a second.
"""


def normalise(text: str, *, compatible: bool = True) -> str:
    """Fold the case, collapse runs of white space and, if `compatible`, apply Unicode NFKC."""
    if compatible and not text.isascii():
        text = normalize("NFKC", shorten_marks(text))
    return " ".join(text.casefold().split())


def normalised(messages: list[Message]) -> str:
    """Join the roles, normalised contents and tool calls of messages into one text."""
    short = sum(len(message["content"]) for message in messages) <= LONG
    return "\n".join(
        f"{m['role']}: {normalise(m['content'], compatible=short)}{m.get('tool_calls', '')}"
        for m in messages
    )


class DuplicateFilter:
    """Remembers the rows of each split as two 64-bit hashes per row."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[int, int]] = {split: {} for split in SPLITS}

    def check(self, record: Record, split: str, file: str, line: int) -> list[Finding]:
        """Return a finding if a record equals an earlier one of its split, else an empty list."""
        first = self._ids[split].get(_hash(record))
        if first is None:
            return []
        found = f"equal to the earlier record {first:016x}"
        if first == int(record.id, 16):
            return [Finding("duplicate", file, line, "", found, "keep one", record.id)]
        return [
            Finding(
                "normalised_duplicate",
                file,
                line,
                "",
                f"{found} except for case or spaces",
                "keep one",
                record.id,
            )
        ]

    def take(self, record: Record, split: str) -> None:
        """Remember a record that is kept."""
        self._ids[split].setdefault(_hash(record), int(record.id, 16))


def _hash(record: Record) -> int:
    rest = [record.rejected] if record.rejected else []
    weights = [message.get("weight") for message in record.messages]
    text = (
        f"{normalised(record.messages + rest)}\n{record.desirable}\n{record.tools or ''}\n{weights}"
    )
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
