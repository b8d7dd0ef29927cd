"""Compare all rows with each other before anything else is done with the splits."""

import logging
import time
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from stages.core.config.schema import Config
from stages.prepare.similarity.clusters import Clusters, find_clusters
from stages.prepare.similarity.leaks import find_equal_questions
from stages.prepare.similarity.near_duplicates import NearDuplicates
from stages.prepare.similarity.pairs import Pairs
from stages.prepare.similarity.row_hashes import RowHashes
from stages.prepare.splits import ORDER, SplitFiles

log = logging.getLogger(__name__)


class Comparison(NamedTuple):
    """Which rows are similar. Rows are numbered as they are after the clusters were moved."""

    pairs: Pairs
    """Near pairs, and pairs with equal questions across given splits."""
    ids: np.ndarray
    """The ids of the records as numbers, shape (rows,)."""
    clusters: Clusters
    seconds: float


def compare_rows(config: Config, files: SplitFiles, drawn: Collection[str]) -> Comparison:
    """Find similar rows, and move each cluster of near-duplicates into one split.

    Args:
        config: The configuration of the run.
        files: The splits.
        drawn: The splits into which rows were drawn. Rows of other splits are not moved.
    """
    started = time.perf_counter()
    hashes, signatures = _read(config, files)
    splits = files.get_splits()
    given = np.array([name not in drawn for name in ORDER])
    near = signatures.find(given | hashes.grouped.any())
    clusters = find_clusters(hashes, near, splits, config.data.split, drawn)
    if grouped := clusters.describe():
        log.info("%s", grouped)
    equal = find_equal_questions(hashes, splits, given)
    numbers = files.regroup(clusters.splits, clusters.names)
    ids = np.empty_like(hashes.ids)
    ids[numbers] = hashes.ids
    pairs = near.join(equal).renumber(numbers)
    return Comparison(pairs, ids, clusters, time.perf_counter() - started)


def _read(config: Config, files: SplitFiles) -> tuple[RowHashes, NearDuplicates]:
    from tqdm import tqdm

    rows = sum(files.counts.values())
    hashes = RowHashes(rows)
    near = NearDuplicates(config.checks.near_duplicate_threshold, config.seed, files)
    with tqdm(total=rows, desc="near-duplicates", unit="row", delay=2, mininterval=1) as bar:
        for split in ORDER:
            for batch in files.batches(split):
                hashes.add(batch)
                near.add(batch)
                bar.update(len(batch))
    return hashes, near
