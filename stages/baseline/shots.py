"""Which solved rows a prompt shows, from the training split alone."""

import random
from collections import Counter
from collections.abc import Sequence

from stages.baseline.candidates import Candidate
from stages.baseline.retrieval import Retriever
from stages.core.data.records import Record


def get_shots(
    candidate: Candidate, train: Sequence[Record], records: Sequence[Record], retriever: Retriever
) -> list[Sequence[Record]]:
    """For each record its shots: none, the same ones, or the most similar.

    Args:
        candidate: says which and how many; fewer where the training split has fewer rows.
        train: the training split.
        records: the rows to answer.
        retriever: an index of the training split.
    """
    if candidate.examples == "drawn":
        return [draw_shots(train, candidate)] * len(records)
    if candidate.examples == "similar":
        return [_order(found, candidate) for found in retriever.search(records, candidate.shots)]
    return [()] * len(records)


def draw_shots(train: Sequence[Record], candidate: Candidate) -> Sequence[Record]:
    """The training rows that the candidate's seed draws; all of them where there are not enough.

    A balanced draw takes a second row with the same target only when it has one of every target.
    """
    draw = random.Random(candidate.draw)
    count = min(candidate.shots, len(train))
    if not candidate.balanced:
        return _order(draw.sample(list(train), count), candidate)
    rows = draw.sample(list(train), len(train))
    seen = Counter[str]()
    rounds = []
    for record in rows:
        rounds.append(seen[record.target])
        seen[record.target] += 1
    taken = sorted(range(len(rows)), key=rounds.__getitem__)[:count]
    draw.shuffle(taken)  # else frequent targets would come first
    return _order([rows[i] for i in taken], candidate)


def _order(shots: Sequence[Record], candidate: Candidate) -> Sequence[Record]:
    return list(reversed(shots)) if candidate.order == "reversed" else shots
