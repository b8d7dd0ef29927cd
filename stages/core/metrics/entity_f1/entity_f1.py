"""Entity F1: micro-averaged over the multisets of entities that predictions and references list."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from stages.core.data.entities import NO_ENTITIES, find_kinds, is_list, list_entities, lists_nothing
from stages.core.data.unicode_text import fold
from stages.core.metrics.row_metric import RowMetric

_TYPES = {"person", "organization", "location"}


class EntityF1(RowMetric):
    """F1 = 2 TP / (2 TP + FP + FN) over all rows; 1 when no row has or claims any entity.

    A text lists entities as `[NAME - TYPE, NAME - TYPE]`. The dash may be any, with or without spaces around it, and
    the comma may be ، of Arabic and Urdu or 、 and ， of Chinese and Japanese. An entity counts as often as it is
    listed; names are compared without regard to case, white space and invisible characters, types exactly but for case.
    A list that was cut off counts with the entities that are complete: a last one without a known type is dropped. Text
    around the list is ignored. A text without a list (`No entities found`) has no entities.

    Options:
        types: the known types; by default PERSON, ORGANIZATION, LOCATION and those that the references list.
    """

    advice = (
        "give targets that list entities as [NAME - TYPE, NAME - TYPE], name their types in evaluate.options."
        "entity_f1.types, or choose exact_match"
    )

    def prepare(self, references: Sequence[str], types: Sequence[str] = ()) -> None:
        listed = {kind.lower() for kind in find_kinds(references)}
        self.types = {kind.lower() for kind in types} or _TYPES | listed
        self.all_types = self.types | listed
        self.nothing = {fold(text) for text in [NO_ENTITIES, *references] if lists_nothing(text)}

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> tuple[float, float]:
        found = parse_entities(prediction, self.types)
        wanted = parse_entities(reference, self.types)
        return 2.0 * (found & wanted).total(), float(found.total() + wanted.total())

    def well_formed(self, prediction: str) -> bool:
        """Whether the whole answer is a list of entities, or what a target says where there are none."""
        return is_list(prediction, self.all_types) or fold(prediction) in self.nothing


def parse_entities(text: str, types: Collection[str] = frozenset(_TYPES)) -> Counter:
    """The multiset of (name, type) in the last bracketed list of `text`, which may lack its end."""
    return Counter((fold(name), kind.lower()) for name, kind in list_entities(text, types))
