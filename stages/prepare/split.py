"""Decide which split a row belongs to."""

import math
from collections import Counter
from hashlib import sha256

import orjson

from stages.core.config.data import Split
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.prepare.similarity.duplicates import normalised

# The multiples of this number modulo 1 fill [0, 1) more evenly than those of any other number.
GOLDEN = (math.sqrt(5) - 1) / 2


class Splitter:
    """Assigns rows to splits by the hash of their group or question.

    Adding or moving rows therefore moves no other row. If rows have labels and `split.stratify` is
    on, rows with equal labels are instead spread evenly over the splits in the order of the source.
    Appending rows then moves no other row, but inserting rows may.
    """

    def __init__(self, split: Split, seed: int, given: set[str]) -> None:
        """Set the shares of the splits.

        Args:
            split: The configured shares.
            seed: The seed of the hash.
            given: The splits that the source names. The others are taken out of its train split.
        """
        shares = {"test": split.test, "validation": split.validation}
        self._shares = {name: share for name, share in shares.items() if name not in given}
        self._split = split
        self._seed = seed
        self._dealt: Counter[str] = Counter()
        self._chosen: dict[str, str] = {}

    @property
    def drawn(self) -> set[str]:
        """The splits into which rows are drawn. The rows of the others were given their split."""
        return set() if self._split.column else {"train", *self._shares}

    def choose(self, record: Record, given: str | None) -> str:
        """Choose the split of a record, and keep a split that the source or its column gives.

        Rows of one group stay together, and so do all answers to one question.

        Args:
            record: The record. If `split.column` is set, its `split` is removed from the metadata.
            given: The split that the source names, or None.

        Returns:
            `train`, `validation` or `test`.
        """
        given = record.meta.pop("split", None) if self._split.column else given
        if given in {"validation", "test"} or self._split.column:
            return str(given)
        group = record.meta.get("group")
        label = record.meta.get("label")
        key = get_split_key(record)
        if not label or group or not self._split.stratify:
            return self._at(self._uniform(key))
        digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if digest not in self._chosen:
            start = self._uniform(f"label {label}")
            self._chosen[digest] = self._at((start + self._dealt[label] * GOLDEN) % 1)
            self._dealt[label] += 1
        return self._chosen[digest]

    def _uniform(self, key: str) -> float:
        """Compute a number in [0, 1) from the seed and the key."""
        text = orjson.dumps([self._seed, key.encode("utf-8", "replace").decode()])
        return int(sha256(text).hexdigest()[:12], 16) / 16**12

    def _at(self, position: float) -> str:
        for name, share in self._shares.items():
            if position < share:
                return name
            position -= share
        return "train"


def get_split_key(record: Record) -> str:
    """Return the group of a record or, without a group, its normalised question."""
    return record.meta.get("group") or normalised(
        record.messages if record.kind in {"text", "prompt"} else record.prompt
    )


def check_splits(counts: dict[str, int], hint: str = "") -> None:
    """Check that no split is empty.

    Args:
        counts: The number of rows in each split.
        hint: How there would be more held-out rows.

    Raises:
        UserError: If a split is empty.
    """
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise UserError(
            f"the split leaves no rows for {', '.join(empty)}; "
            f"{hint or 'add rows, or raise the shares in data.split'}"
        )
