"""Select the examples of a prompt from the training split."""

import random
from collections import Counter
from collections.abc import Sequence

from stages.baseline.candidates import Candidate
from stages.baseline.retrieval import Retriever
from stages.core.data.records import Record


def get_shots(
    candidate: Candidate, train: Sequence[Record], records: Sequence[Record], retriever: Retriever
) -> list[Sequence[Record]]:
    """Return the examples of each record: none, the same drawn ones, or the most similar ones.

    Args:
        candidate: Says which examples, and how many. A smaller training split gives fewer.
        train: The training split.
        records: The rows to answer.
        retriever: An index of the training split.
    """
    if candidate.examples == "drawn":
        return [draw_shots(train, candidate)] * len(records)
    if candidate.examples == "similar":
        return [_order(found, candidate) for found in retriever.search(records, candidate.shots)]
    return [()] * len(records)


def draw_shots(train: Sequence[Record], candidate: Candidate) -> Sequence[Record]:
    """Draw training rows by the candidate's seed, or take all of them if there are too few.

    A balanced draw takes a second row with the same target only after it has one of every target.
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
    draw.shuffle(taken)  # otherwise the examples with frequent targets would come first
    return _order([rows[i] for i in taken], candidate)


def _order(shots: Sequence[Record], candidate: Candidate) -> Sequence[Record]:
    return list(reversed(shots)) if candidate.order == "reversed" else shots
