"""Which solved rows the prompted arms show, from the training split alone."""

import random
from collections.abc import Sequence

from stages.core.records import Record
from stages.core.retrieval import Retriever


def get_shots(
    arm: str, train: Sequence[Record], records: Sequence[Record], k: int, seed: int, retriever: Retriever
) -> list[Sequence[Record]]:
    """For each record its shots: none, the same `k` drawn by the seed, or the `k` most similar.

    Args:
        arm: `zero_shot`, `few_shot` or `retrieval`.
        train: the training split.
        records: the rows to answer.
        k: how many shots; fewer where the training split has fewer rows.
        seed: of the draw.
        retriever: an index of the training split.
    """
    if arm == "few_shot":
        return [draw_shots(train, k, seed)] * len(records)
    if arm == "retrieval":
        return list(retriever.search(records, k))
    return [()] * len(records)


def draw_shots(train: Sequence[Record], k: int, seed: int) -> Sequence[Record]:
    """The `k` training rows that the seed draws; all of them where there are fewer."""
    return random.Random(seed).sample(list(train), min(k, len(train)))
