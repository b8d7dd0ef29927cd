"""Pairs of similar rows, and the components that they connect."""

from typing import NamedTuple

import numpy as np

HALF = np.uint64(32)
LOW = np.uint64(0xFFFFFFFF)


class Pairs(NamedTuple):
    """Pairs of similar rows. A row is given by its number in the splits as `ORDER` lists them."""

    first: np.ndarray
    """The earlier row of each pair, shape (pairs,)."""
    second: np.ndarray
    """The later row of each pair, shape (pairs,)."""
    similarity: np.ndarray
    """The smaller of the similarities of the questions and of the answers, shape (pairs,). It is 0
    for a pair of which only the questions are known to be equal."""

    def join(self, others: "Pairs") -> "Pairs":
        """Return these pairs and then the others."""
        return Pairs(*(np.concatenate(columns) for columns in zip(self, others, strict=True)))

    def renumber(self, numbers: np.ndarray) -> "Pairs":
        """Give each row a new number, `numbers[row]`, and put the earlier row first again."""
        first = numbers[self.first]
        second = numbers[self.second]
        return Pairs(np.minimum(first, second), np.maximum(first, second), self.similarity)


def pack(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Store each pair of unsigned rows in one number of 64 bits."""
    return first << HALF | second


def unpack(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the second rows of the pairs that `pack` stored."""
    return (packed >> HALF).astype(np.int64), (packed & LOW).astype(np.int64)


def get_components(first: np.ndarray, second: np.ndarray, rows: int) -> np.ndarray:
    """Number the connected components of this many rows, shape (rows,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not rows:
        return np.empty(0, np.int64)
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(rows, rows))
    return connected_components(graph, directed=False)[1]
