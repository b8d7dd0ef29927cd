"""Which split a row belongs to."""

import math
from collections import Counter
from hashlib import sha256

import orjson

from stages.core.config.data import Split
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.prepare.duplicates import normalised

GOLDEN = (
    math.sqrt(5) - 1
) / 2  # its multiples modulo 1 fill [0, 1) more evenly than those of any other number


class Splitter:
    """Chooses by the hash of what belongs together: adding or moving rows never moves another row.

    Where rows have labels and `split.stratify` is on, equal labels are dealt out in the order in which they come:
    appending rows moves none.
    """

    def __init__(self, split: Split, seed: int, given: set[str]) -> None:
        """Prepare to choose.

        Args:
            split: the shares.
            seed: of the hash.
            given: the splits that the source names; what it gives as train is divided for those that it does not.
        """
        shares = {"test": split.test, "validation": split.validation}
        self._shares = {name: share for name, share in shares.items() if name not in given}
        self._split = split
        self._seed = seed
        self._dealt: Counter[str] = Counter()
        self._chosen: dict[str, str] = {}

    def choose(self, record: Record, given: str | None) -> str:
        """`train`, `validation` or `test`; what the source or its column gives is kept as it is given.

        Rows of one group stay together, and so do all answers to one question.
        """
        given = record.meta.pop("split", None) if self._split.column else given
        if given in {"validation", "test"} or self._split.column:
            return str(given)
        group = record.meta.get("group")
        label = record.meta.get("label")
        key = group or normalised(
            record.messages if record.kind in {"text", "prompt"} else record.prompt
        )
        if not label or group or not self._split.stratify:
            return self._at(self._uniform(key))
        digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if digest not in self._chosen:
            start = self._uniform(f"label {label}")
            self._chosen[digest] = self._at((start + self._dealt[label] * GOLDEN) % 1)
            self._dealt[label] += 1
        return self._chosen[digest]

    def _uniform(self, key: str) -> float:
        """A number in [0, 1) that the seed and the key decide."""
        text = orjson.dumps([self._seed, key.encode("utf-8", "replace").decode()])
        return int(sha256(text).hexdigest()[:12], 16) / 16**12

    def _at(self, position: float) -> str:
        for name, share in self._shares.items():
            if position < share:
                return name
            position -= share
        return "train"


def check_splits(counts: dict[str, int]) -> None:
    """Raise where a split is empty.

    Raises:
        UserError: it names them.
    """
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise UserError(
            f"the split leaves no rows for {', '.join(empty)}: give more rows, or larger shares in data.split"
        )
