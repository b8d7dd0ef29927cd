"""Find near-duplicates with MinHash signatures and locality-sensitive hashing (LSH) in bands.

Every candidate pair is checked by its exact Jaccard similarity. See Broder, "On the resemblance and
containment of documents" (1997).

The package rensa computes the signatures. Its own index keeps every row of every band in memory.
`stages.prepare.similarity.buckets` needs only the signatures, half a kilobyte per row.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from stages.core.data.records import Record
from stages.core.data.unicode_text import fold, split_text, unify
from stages.prepare.similarity.buckets import PERMUTATIONS, Band, sort_into_buckets
from stages.prepare.similarity.duplicates import normalised
from stages.prepare.similarity.pairs import Pairs, get_components, unpack
from stages.prepare.splits import ORDER, SplitFiles

WORDS = 3  # in a shingle
# A shingle in more than this share of the rows, and in more than COMMON_ROWS rows, belongs to a
# template and is not content.
COMMON = 0.1
COMMON_ROWS = 20
# Longer texts are compared by their beginnings. The sets of a text of 1 MB take up to 3 s and 40 MB.
COMPARED = 100_000  # bytes of a question or an answer
CHECKED = 20_000  # pairs in memory at once
DEVIATIONS = 3  # so that one pair in a thousand that is exactly at the threshold is missed
ROUNDS = 5  # of the search for what the first search missed
Shingles = set[str]


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

    def find(self, apart: np.ndarray) -> Pairs:
        """Find near pairs, whose questions and answers are both near.

        Not every near pair is found, but with few exceptions every row is found near to the others
        of its connected component and, if it may leak, near to a row of an earlier split.

        Args:
            apart: For each split in `ORDER` whether its rows stay in it even if rows of another
                split are near, shape (splits,).
        """
        splits = self._files.get_splits()
        candidates = self._pair(np.arange(len(splits), dtype=np.uint64), Band.pair_neighbours)
        found = self._check(candidates)
        rows = np.unique(np.concatenate(unpack(candidates))).astype(np.uint64)
        draws = np.random.default_rng(self._seed)
        for _ in range(ROUNDS):
            tried = self._pair(rows, partial(Band.pair_at_random, splits=splits, draws=draws))
            first, second = unpack(tried)
            parts = get_components(found.first, found.second, len(splits))
            leaking = found.second[splits[found.first] != splits[found.second]]
            may_leak = (splits[first] != splits[second]) & (
                apart[splits[first]] | apart[splits[second]]
            )
            may_leak &= ~np.isin(second, leaking)
            more = self._check(tried[(parts[first] != parts[second]) | may_leak])
            if not len(more.first):
                break
            found = found.join(more)
        return found

    def _pair(self, rows: np.ndarray, pair: Callable[[Band], np.ndarray]) -> np.ndarray:
        """Collect the pairs of all bands, without repetition, among these rows."""
        packed = np.empty(0, np.uint64)
        for band in sort_into_buckets(self._signatures, rows, self._threshold, self._seed):
            packed = np.union1d(packed, pair(band))
        return packed

    def _check(self, candidates: np.ndarray) -> Pairs:
        """Return the candidates that are near."""
        first, second = unpack(candidates[self._agree(candidates)])
        similarity = np.empty(len(first))
        for start in range(0, len(first), CHECKED):
            part = slice(start, start + CHECKED)
            pairs = list(zip(first[part].tolist(), second[part].tolist(), strict=True))
            texts = self._texts({row for pair in pairs for row in pair})
            similarity[part] = [min(self._similarities(texts[a], texts[b])) for a, b in pairs]
        near = similarity >= self._threshold
        return Pairs(first[near], second[near], similarity[near])

    def _agree(self, candidates: np.ndarray) -> np.ndarray:
        """Tell which pairs may be near by the share of their signatures that agrees.

        This share has the mean of the Jaccard similarity of question and answer together, which is
        at least the smaller of the two. `DEVIATIONS` standard errors below the threshold the texts
        need not be read.
        """
        error = math.sqrt(self._threshold * (1 - self._threshold) / PERMUTATIONS)
        agree = np.empty(len(candidates), bool)
        for start in range(0, len(candidates), CHECKED):
            first, second = unpack(candidates[start : start + CHECKED])
            equal = (self._signatures[first] == self._signatures[second]).mean(axis=1)
            agree[start : start + CHECKED] = equal >= self._threshold - DEVIATIONS * error
        return agree

    def _texts(self, rows: set[int]) -> dict[int, tuple[Shingles, Shingles]]:
        """Read the shingles of each row."""
        texts: dict[int, tuple[Shingles, Shingles]] = {}
        start = 0
        for split in ORDER:
            size = self._files.counts[split]
            picked = self._files.pick(
                split, {row - start for row in rows if start <= row < start + size}
            )
            texts |= {start + row: _shingles(record) for row, record in picked.items()}
            start += size
        return texts

    def _similarities(
        self, a: tuple[Shingles, Shingles], b: tuple[Shingles, Shingles]
    ) -> tuple[float, float]:
        return _jaccard(self._content(a[0]), self._content(b[0])), _jaccard(a[1], b[1])

    def _content(self, shingles: Shingles) -> Shingles:
        return shingles - (self._template or set()) or shingles


def _shingles(record: Record) -> tuple[Shingles, Shingles]:
    """Compute the shingles of the question and of the answer.

    System messages are left out of the question if it has other messages.
    """
    asked = [m for m in record.prompt if m["role"] != "system"] or record.prompt
    answer = [] if record.kind == "prompt" else record.messages[-1:]
    return _shingle(normalised(asked)), _shingle(normalised(answer))


def _shingle(text: str) -> Shingles:
    beginning = text[:COMPARED].encode("utf-8", "replace")[:COMPARED].decode("utf-8", "ignore")
    # One character may become 18, so that what they become is cut too.
    words = split_text(unify(fold(beginning))[:COMPARED])
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
