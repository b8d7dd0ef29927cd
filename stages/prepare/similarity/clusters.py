"""Keep near-duplicates in one split, so that no held-out row has a near twin in training.

A cluster is a connected component of near pairs, equal questions and rows of one group. All its
rows go to the split that its representative has without near-duplicates. The representative is the
row with the smallest id. Ids are hashes of the content, so they tell nothing about the split: a row
with near twins is a test row as often as any other. A further row is rarely the new representative,
and the order of the rows does not matter.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from stages.core.config.data import Split
from stages.prepare.similarity.pairs import Pairs, get_components
from stages.prepare.similarity.row_hashes import RowHashes
from stages.prepare.splits import ORDER

LARGEST = 0.5
"""The largest cluster as a share of the rows that a held-out split should have.

A larger one would be most of the split. Related pages of a site, lines of a log or windows of a text
may form a chain through the whole data set (the chaining of single linkage).
"""
TRAIN = ORDER.index("train")


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters that join rows with different questions or groups."""

    splits: np.ndarray
    """The index in `ORDER` of the split of each row, shape (rows,)."""
    names: np.ndarray
    """The id of the representative of each row's cluster, or 0 without a cluster, shape (rows,)."""
    numbers: dict[str, int]
    """What was grouped, for `metrics/prepare.json`."""

    @property
    def hint(self) -> str:
        """Say how more rows become held out, or nothing if no cluster is too large for that."""
        if not self.numbers["in_train"]:
            return ""
        return (
            f"{self.numbers['rows_in_train']:,} near-duplicates are in train, because their "
            "clusters are too large for a held-out split. Raise checks.near_duplicate_threshold, "
            "name what belongs together with data.group_column or data.group_starts, "
            "or give the splits with data.split.column"
        )

    def describe(self) -> str:
        """Say in a few sentences what was grouped, or nothing if there is nothing to say."""
        n = self.numbers
        said = []
        if n["clusters"]:
            said.append(
                f"{n['rows']:,} near-duplicates and rows with the same question or group form "
                f"{n['clusters']:,} clusters, the largest with {n['largest']:,} rows. "
                f"To keep clusters together, {n['moved']:,} rows changed their split."
            )
        if n["in_train"]:
            said.append(
                f"{n['rows_in_train']:,} rows are in train, because their {n['in_train']:,} "
                "clusters are too large for a held-out split."
            )
        if n["left_apart"]:
            said.append(
                f"{n['left_apart']:,} clusters would join groups to more rows than a held-out "
                "split can hold, so the groups keep their splits."
            )
        return " ".join(said)


def find_clusters(
    hashes: RowHashes, pairs: Pairs, splits: np.ndarray, split: Split, drawn: Collection[str]
) -> Clusters:
    """Decide which rows belong together and which split they go to.

    A cluster that is too large for its held-out split goes to train as a whole. If the data names
    groups, joining them to such a cluster would leave too few groups, so they keep their splits.

    Args:
        hashes: The hashes of all rows.
        pairs: The near pairs.
        splits: The index in `ORDER` of the split that each row has now, shape (rows,).
        split: The configured shares of the splits.
        drawn: The splits that Tuneproof draws. The rows of other splits are not moved, and near
            rows of one such split form clusters too.
    """
    draws = np.array([name in drawn for name in ORDER])
    labels = _connect(hashes, pairs, np.where(draws[splits], -1, splits))
    sizes = np.bincount(labels)
    by_id = np.lexsort((hashes.ids, labels))
    first = by_id[np.unique(labels[by_id], return_index=True)[1]]
    homes = splits[first]
    joined = _count_keys(labels, hashes.keys) > 1
    with_groups = np.bincount(labels, hashes.grouped) > 0
    too_large = joined & (sizes > LARGEST * _expected_rows(splits, split, draws)[homes])
    left_apart = too_large & with_groups
    in_train = too_large & ~with_groups & draws[homes]
    joined &= ~left_apart
    homes = np.where(in_train, TRAIN, homes)
    moved = np.where(joined[labels], homes[labels], splits)
    numbers = {
        "clusters": joined.sum(),
        "rows": sizes[joined].sum(),
        "largest": sizes[joined].max(initial=0),
        "moved": (moved != splits).sum(),
        "in_train": in_train.sum(),
        "rows_in_train": sizes[in_train].sum(),
        "left_apart": left_apart.sum(),
    }
    names = np.where(joined[labels], hashes.ids[first][labels], np.uint64(0))
    return Clusters(moved, names, {name: int(number) for name, number in numbers.items()})


def _connect(hashes: RowHashes, pairs: Pairs, pools: np.ndarray) -> np.ndarray:
    """Number the connected components of the rows, whose members are of one pool.

    Returns:
        The number of the component of each row, shape (rows,).
    """
    near = pools[pairs.first] == pools[pairs.second]
    order = np.lexsort((hashes.keys, pools))
    before, after = order[:-1], order[1:]
    equal = (hashes.keys[before] == hashes.keys[after]) & (pools[before] == pools[after])
    return get_components(
        np.concatenate([pairs.first[near], before[equal]]),
        np.concatenate([pairs.second[near], after[equal]]),
        len(pools),
    )


def _count_keys(labels: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Count the different keys of each component, shape (components,)."""
    order = np.lexsort((keys, labels))
    labels = labels[order]
    keys = keys[order]
    new = np.r_[True, (labels[1:] != labels[:-1]) | (keys[1:] != keys[:-1])][: len(labels)]
    return np.bincount(labels[new])


def _expected_rows(splits: np.ndarray, split: Split, draws: np.ndarray) -> np.ndarray:
    """Compute how many rows each split should have, shape (splits,).

    For a drawn train split it is the number of the largest split that is drawn from it, because a
    cluster of training rows counts as large if no held-out split could hold it.
    """
    rows = np.bincount(splits, minlength=len(ORDER)).astype(float)
    shares = np.array([getattr(split, name, 0.0) for name in ORDER])
    expected = np.where(draws, shares * rows[draws].sum(), rows)
    expected[TRAIN] = expected[draws].max(initial=0.0) or rows[TRAIN]
    return expected
