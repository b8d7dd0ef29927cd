"""Rows that are equal, exactly or but for case, spacing and forms of the same character."""

from hashlib import blake2b
from unicodedata import normalize

from stages.core.data.records import SPLITS, Message, Record
from stages.prepare.findings import Finding


def normalise(text: str) -> str:
    """Compatible characters made one (Unicode NFKC), case folded, runs of space made one space."""
    return " ".join((text if text.isascii() else normalize("NFKC", text)).casefold().split())


def normalised(messages: list[Message]) -> str:
    """All that messages say."""
    return "\n".join(
        f"{m['role']}: {normalise(m['content'])}{m.get('tool_calls', '')}" for m in messages
    )


class Seen:
    """The rows of each split so far: two hashes of 64 bits a row."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[int, int]] = {split: {} for split in SPLITS}

    def check(self, record: Record, split: str, file: str, line: int) -> list[Finding]:
        """The finding that a record equals an earlier one of its split."""
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
                f"{found} but for case or spaces",
                "keep one",
                record.id,
            )
        ]

    def take(self, record: Record, split: str) -> None:
        """Remember a record that is passed on."""
        self._ids[split].setdefault(_hash(record), int(record.id, 16))


def _hash(record: Record) -> int:
    rest = [record.rejected] if record.rejected else []
    weights = [message.get("weight") for message in record.messages]
    text = (
        f"{normalised(record.messages + rest)}\n{record.desirable}\n{record.tools or ''}\n{weights}"
    )
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
