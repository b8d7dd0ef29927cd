"""Find near-duplicates with MinHash signatures and locality-sensitive hashing (LSH) in bands.

Every candidate pair is checked by its exact Jaccard similarity. See Broder, "On the resemblance and
containment of documents" (1997), and Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets",
section 3.4.

The package rensa computes the signatures. Its own index keeps every row of every band in memory.
Sorting one band after the other needs only the signatures, half a kilobyte per row.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.core.data.records import SPLITS, Record
from stages.core.data.unicode_text import fold, split_text, unify
from stages.prepare.duplicates import normalised
from stages.prepare.splits import SplitFiles

PERMUTATIONS = 128
RECALL = 0.99  # for pairs exactly at the threshold; nearer pairs are found more often
WORDS = 3  # in a shingle
# A shingle in more than this share of the rows, and in more than COMMON_ROWS rows, belongs to a
# template and is not content.
COMMON = 0.1
COMMON_ROWS = 20
# Longer texts are compared by their beginnings. The sets of a text of 1 MB take 0.5 s and 40 MB.
COMPARED = 100_000  # characters of a question or an answer
CHECKED = 20_000  # pairs in memory at once
# The test split comes first, because of two near rows in different splits the later one is dropped.
ORDER = SPLITS[::-1]
Shingles = set[str]


class Pair(NamedTuple):
    """Two near rows, each given by its split and its index there. The second is the later one."""

    first: tuple[str, int]
    second: tuple[str, int]
    similarity: float
    record: str
    """The id of the second record."""


class NearDuplicates:
    """Finds near pairs among the records of all splits, which must be added in `ORDER`."""

    def __init__(self, threshold: float, seed: int, files: SplitFiles) -> None:
        self._threshold = threshold
        self._seed = seed
        self._files = files
        self._signatures = np.empty((sum(files.counts.values()), PERMUTATIONS), np.uint32)
        self._taken = 0
        self._template: Shingles | None = None

    def add(self, records: Sequence[Record]) -> None:
        """Add the next records. The first batch determines what counts as a template."""
        from rensa import RMinHash

        parts = [_shingles(record) for record in records]
        if self._template is None:
            self._template = _common(parts)
        sets = [
            list(self._content(asked)) + [f"answer {s}" for s in answered]
            for asked, answered in parts
        ]
        matrix = RMinHash.digest_matrix_from_token_sets(sets, PERMUTATIONS, self._seed)
        self._signatures[self._taken : self._taken + len(sets)] = matrix.to_rows()
        self._taken += len(sets)

    def find(self) -> list[Pair]:
        """Find the pairs whose questions and answers are both near.

        Returns:
            For each later row the pair with its nearest earlier row.
        """
        candidates = self._candidates()
        nearest: dict[int, Pair] = {}
        for start in range(0, len(candidates), CHECKED):
            pairs = [
                (int(pair >> 32), int(pair & 0xFFFFFFFF))
                for pair in candidates[start : start + CHECKED].tolist()
            ]
            texts = self._texts({row for pair in pairs for row in pair})
            for first, second in pairs:
                similarity = min(self._similarities(texts[first][0], texts[second][0]))
                if similarity >= self._threshold and (
                    second not in nearest or nearest[second].similarity < similarity
                ):
                    nearest[second] = Pair(
                        self._place(first), self._place(second), similarity, texts[second][1]
                    )
        return [nearest[row] for row in sorted(nearest)]

    def _candidates(self) -> np.ndarray:
        """Pair rows that agree in a band: each row with the first of its bucket and the one before.

        Returns:
            The pairs as `first << 32 | second`.
        """
        found = np.empty(0, np.uint64)
        width = band_width(self._threshold)
        factors = np.random.default_rng(self._seed).integers(
            1, 2**63, width, dtype=np.uint64
        ) | np.uint64(1)
        for start in range(0, PERMUTATIONS - width + 1, width):
            band = self._signatures[:, start : start + width].astype(np.uint64)
            keys = (band * factors).sum(axis=1, dtype=np.uint64)  # modulo 2 ** 64
            order = np.argsort(keys, kind="stable").astype(np.uint64)
            sorted_keys = keys[order]
            follows = np.flatnonzero(sorted_keys[1:] == sorted_keys[:-1]) + 1
            starts = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]])
            firsts = starts[np.searchsorted(starts, follows, side="right") - 1]
            pairs = [
                order[before] << np.uint64(32) | order[follows] for before in (firsts, follows - 1)
            ]
            found = np.union1d(found, np.concatenate(pairs))
        return found

    def _texts(self, rows: set[int]) -> dict[int, tuple[tuple[Shingles, Shingles], str]]:
        """Read the shingles and the id of each row."""
        texts: dict[int, tuple[tuple[Shingles, Shingles], str]] = {}
        start = 0
        for split in ORDER:
            size = self._files.counts[split]
            picked = self._files.pick(
                split, {row - start for row in rows if start <= row < start + size}
            )
            texts |= {start + row: (_shingles(record), record.id) for row, record in picked.items()}
            start += size
        return texts

    def _similarities(
        self, a: tuple[Shingles, Shingles], b: tuple[Shingles, Shingles]
    ) -> tuple[float, float]:
        return _jaccard(self._content(a[0]), self._content(b[0])), _jaccard(a[1], b[1])

    def _content(self, shingles: Shingles) -> Shingles:
        return shingles - (self._template or set()) or shingles

    def _place(self, row: int) -> tuple[str, int]:
        for split in ORDER:
            if row < self._files.counts[split]:
                return split, row
            row -= self._files.counts[split]
        raise IndexError(row)


def band_width(threshold: float) -> int:
    """Return the largest band width that still finds pairs at the threshold with `RECALL`."""
    widths = range(PERMUTATIONS, 0, -1)
    return next(r for r in widths if 1 - (1 - threshold**r) ** (PERMUTATIONS // r) >= RECALL)


def _shingles(record: Record) -> tuple[Shingles, Shingles]:
    """Compute the shingles of the question and of the answer.

    System messages are left out of the question if it has other messages.
    """
    asked = [m for m in record.prompt if m["role"] != "system"] or record.prompt
    answer = [] if record.kind == "prompt" else record.messages[-1:]
    return _shingle(normalised(asked)[:COMPARED]), _shingle(normalised(answer)[:COMPARED])


def _shingle(text: str) -> Shingles:
    words = split_text(unify(fold(text)))
    return (
        {" ".join(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))}
        if words
        else set()
    )


def _common(parts: Sequence[tuple[Shingles, Shingles]]) -> Shingles:
    counts = Counter(shingle for asked, _ in parts for shingle in asked)
    limit = max(COMMON_ROWS, COMMON * len(parts))
    return {shingle for shingle, count in counts.items() if count > limit}


def _jaccard(a: Shingles, b: Shingles) -> float:
    return len(a & b) / len(a | b) if a or b else 1.0
