"""Entity F1: micro-averaged over the multisets of entities that predictions and references list."""

from collections import Counter

import datasets
import evaluate

_DESCRIPTION = """
A text lists entities as `[NAME - TYPE, NAME - TYPE]`. An entity counts as often as it is listed; names are compared
without regard to case and white space, types exactly but for case. A list that was cut off counts with the entities
that are complete: a last one without a known type is dropped. Text around the list is ignored. A text without a list
(`No entities found`) has no entities. F1 = 2 TP / (2 TP + FP + FN) over all rows; 1 when no row has or claims any.
"""

_KWARGS = """
Args:
    predictions: texts.
    references: texts.
Returns:
    entity_f1: in [0, 1].
    numerators, denominators: for each row 2 TP and 2 TP + FP + FN, so that F1 is the ratio of their sums.
"""

_TYPES = {"person", "organization", "location"}


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS)
class EntityF1(evaluate.Metric):
    """Micro-F1 over multisets of (name, type)."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description=_DESCRIPTION, citation="", inputs_description=_KWARGS, features=features)

    def _compute(self, predictions: list[str], references: list[str]) -> dict:
        pairs = [(parse_entities(p), parse_entities(r)) for p, r in zip(predictions, references, strict=True)]
        numerators = [2.0 * (found & wanted).total() for found, wanted in pairs]
        denominators = [float(found.total() + wanted.total()) for found, wanted in pairs]
        total = sum(denominators)
        f1 = sum(numerators) / total if total else 1.0
        return {"entity_f1": f1, "numerators": numerators, "denominators": denominators}


def parse_entities(text: str) -> Counter:
    """The multiset of (name, type) in the last bracketed list of `text`, which may lack its end."""
    start = text.rfind("[")
    if start < 0:
        return Counter()
    entities: Counter = Counter()
    name: list[str] = []
    for piece in text[start + 1 :].split("]", maxsplit=1)[0].split(","):
        head, dash, kind = piece.rpartition(" - ")
        name.append(head if dash else piece)
        if dash and kind.strip().lower() in _TYPES:  # else the comma belongs to the name
            entities[(" ".join(",".join(name).lower().split()), kind.strip().lower())] += 1
            name = []
    return entities
