"""Duplicates out, and the split by content: adding or moving rows never moves another row."""

from collections.abc import Iterable

from stages.core.config import Split
from stages.core.errors import UserError
from stages.core.files import sha256_json
from stages.core.records import SPLITS, Record


def drop_duplicates(records: Iterable[Record]) -> list[Record]:
    """The records without the later ones of equal content, in the order given."""
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.id, record)
    return list(first.values())


def split_records(records: Iterable[Record], split: Split, seed: int) -> dict[str, list[Record]]:
    """Assign each record by the hash of its prompt and the seed: two answers to one prompt stay together.

    Raises:
        UserError: a split is empty.
    """
    parts: dict[str, list[Record]] = {name: [] for name in SPLITS}
    for record in records:
        position = int(sha256_json([seed, record.prompt])[:12], 16) / 16**12  # uniform in [0, 1)
        if position < split.test:
            parts["test"].append(record)
        elif position < split.test + split.validation:
            parts["validation"].append(record)
        else:
            parts["train"].append(record)
    empty = [name for name, part in parts.items() if not part]
    if empty:
        raise UserError(
            f"the split leaves no rows for {', '.join(empty)}: give more rows, or larger shares in data.split"
        )
    return parts
