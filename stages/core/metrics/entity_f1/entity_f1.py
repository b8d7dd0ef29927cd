"""Compute micro-averaged F1 over the entities that predictions and references list."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from stages.core.data.entities import NO_ENTITIES, find_kinds, is_list, list_entities, lists_nothing
from stages.core.data.unicode_text import fold
from stages.core.metrics.row_metric import RowMetric

_TYPES = {"person", "organization", "location"}


class EntityF1(RowMetric):
    """Computes F1 = 2 TP / (2 TP + FP + FN) over the entities that all rows list.

    The score is 1 if no row has or claims any entity. A text lists entities as
    `[NAME - TYPE, NAME - TYPE]`. Any kind of dash is allowed, with or without spaces around it. The
    comma may also be the Arabic and Urdu ، or the Chinese and Japanese 、 and ，. An entity counts
    as often as it is listed. The comparison of names ignores case, white space and invisible
    characters. The comparison of types ignores only case. If a list was cut off, its complete
    entities count, and a last one without a known type is dropped. Text around the list is ignored.
    A text without a list (`No entities found`) has no entities.

    Options:
        types: The known types. The default is PERSON, ORGANIZATION, LOCATION and the types that
            the references list.
    """

    advice = (
        "write the targets as [NAME - TYPE, NAME - TYPE], list their types in "
        "evaluate.options.entity_f1.types, or choose exact_match"
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
        """Check whether the whole answer is a list of entities or a target without any."""
        return is_list(prediction, self.all_types) or fold(prediction) in self.nothing


def parse_entities(text: str, types: Collection[str] = frozenset(_TYPES)) -> Counter:
    """Count each (name, type) pair in the last bracketed list of a text.

    The end of the list may be missing.
    """
    return Counter((fold(name), kind.lower()) for name, kind in list_entities(text, types))
