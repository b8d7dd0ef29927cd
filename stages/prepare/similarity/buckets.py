"""Locality-sensitive hashing: rows whose signatures agree in a band share a bucket.

See Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4. Sorting one band
after the other needs only the signatures.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stages.prepare.similarity.pairs import pack

PERMUTATIONS = 128
RECALL = 0.99  # for pairs exactly at the threshold; nearer pairs are found more often


class Band(NamedTuple):
    """The rows that share a bucket of one band with another row, one bucket after the other."""

    rows: np.ndarray
    """The rows, in ascending order within each bucket, shape (members,)."""
    starts: np.ndarray
    """For each member the position of the first member of its bucket, shape (members,)."""

    def pair_neighbours(self) -> np.ndarray:
        """Pair each row with the first one of its bucket and with the one before it."""
        later = np.flatnonzero(self.starts < np.arange(len(self.rows)))
        firsts = self._pair(self.starts[later], later)
        return np.concatenate([firsts, self._pair(later - 1, later)])

    def pair_at_random(self, splits: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        """Pair each row with an earlier one of its bucket and with one of an earlier split.

        Args:
            splits: The split of each row as a number that does not decrease, shape (rows,).
            draws: The source of random numbers.
        """
        places = np.arange(len(self.rows))
        changes = (np.diff(self.starts) != 0) | (np.diff(splits[self.rows]) != 0)
        same_split = _run_starts(changes)  # the first member of the same bucket and split
        pairs = []
        for ends in (places, same_split):
            later = np.flatnonzero(self.starts < ends)
            starts = self.starts[later]
            mates = starts + (draws.random(len(later)) * (ends[later] - starts)).astype(np.int64)
            pairs.append(self._pair(mates, later))
        return np.concatenate(pairs)

    def _pair(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return pack(self.rows[first], self.rows[second])


def sort_into_buckets(
    signatures: np.ndarray, rows: np.ndarray, threshold: float, seed: int
) -> Iterator[Band]:
    """Yield the buckets of each band.

    Args:
        signatures: The MinHash signatures of all rows, shape (all rows, `PERMUTATIONS`).
        rows: The rows to sort, in ascending order, as unsigned numbers of 64 bits, shape (rows,).
        threshold: The Jaccard similarity at which pairs share a bucket with `RECALL`.
        seed: The seed of the hash of a band.
    """
    if not len(rows):
        return
    width = band_width(threshold)
    factors = np.random.default_rng(seed).integers(1, 2**63, width, dtype=np.uint64) | np.uint64(1)
    for start in range(0, PERMUTATIONS - width + 1, width):
        band = signatures[rows, start : start + width].astype(np.uint64)
        keys = (band * factors).sum(axis=1, dtype=np.uint64)  # modulo 2 ** 64
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        equal = keys[1:] == keys[:-1]
        shared = np.r_[False, equal] | np.r_[equal, False]
        keys = keys[shared]
        if len(keys):
            yield Band(rows[order[shared]], _run_starts(keys[1:] != keys[:-1]))


def band_width(threshold: float) -> int:
    """Return the largest band width that still finds pairs at the threshold with `RECALL`."""
    widths = range(PERMUTATIONS, 0, -1)
    return next(r for r in widths if 1 - (1 - threshold**r) ** (PERMUTATIONS // r) >= RECALL)


def _run_starts(changes: np.ndarray) -> np.ndarray:
    """Return for each position where its run begins, given where it differs from the one before."""
    starts = np.r_[0, np.flatnonzero(changes) + 1]
    return np.repeat(starts, np.diff(np.r_[starts, len(changes) + 1]))
