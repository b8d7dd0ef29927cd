"""Entity F1: micro-averaged over the multisets of entities that predictions and references list."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from stages.core.row_metric import RowMetric

_TYPES = {"person", "organization", "location"}


class EntityF1(RowMetric):
    """F1 = 2 TP / (2 TP + FP + FN) over all rows; 1 when no row has or claims any entity.

    A text lists entities as `[NAME - TYPE, NAME - TYPE]`. An entity counts as often as it is listed; names are compared
    without regard to case and white space, types exactly but for case. A list that was cut off counts with the entities
    that are complete: a last one without a known type is dropped. Text around the list is ignored. A text without a
    list (`No entities found`) has no entities.

    Options:
        types: the known types; PERSON, ORGANIZATION and LOCATION by default.
    """

    def prepare(self, references: Sequence[str], types: Sequence[str] = ()) -> None:
        self.types = {kind.lower() for kind in types} or _TYPES

    def contribute(self, prediction: str, reference: str, record: dict[str, Any]) -> tuple[float, float]:
        found, wanted = parse_entities(prediction, self.types), parse_entities(reference, self.types)
        return 2.0 * (found & wanted).total(), float(found.total() + wanted.total())


def parse_entities(text: str, types: Collection[str] = frozenset(_TYPES)) -> Counter:
    """The multiset of (name, type) in the last bracketed list of `text`, which may lack its end."""
    start = text.rfind("[")
    if start < 0:
        return Counter()
    entities: Counter = Counter()
    name: list[str] = []
    for piece in text[start + 1 :].split("]", maxsplit=1)[0].split(","):
        head, dash, kind = piece.rpartition(" - ")
        name.append(head if dash else piece)
        if dash and kind.strip().lower() in types:  # else the comma belongs to the name
            entities[(" ".join(",".join(name).lower().split()), kind.strip().lower())] += 1
            name = []
    return entities
