"""Compute micro-averaged F1 over the fields of JSON values in predictions and references."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from stages.core.metrics.json_answers import JsonMetric, read_json_answer


class JsonF1(JsonMetric):
    """Computes F1 = 2 TP / (2 TP + FP + FN) over the (path, value) pairs of all rows.

    The score is 1 if no row has or claims any field. As in the evaluation of Donut (Kim et al.,
    2022), a path consists of the keys that lead to a string, number, boolean, null or empty
    container, without positions in lists. A pair counts as often as it occurs. The JSON value is
    the whole text, the inside of a ```json fence, or the first object or list of objects within
    other text. 1 and 1.0 are the same number. A prediction has no fields if it has no value or the
    schema rejects its value.

    Options:
        schema: See `JsonMetric`.
    """

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        answers = read_json_answer(prediction, self.validator), read_json_answer(reference, None)
        found, wanted = (Counter(fields(values)) for values in answers)
        return 2.0 * (found & wanted).total(), float(found.total() + wanted.total())


def fields(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each path in `value` with the JSON text of the value at that path."""
    if isinstance(value, dict):
        inside = [(part, (*path, key)) for key, part in value.items()]
    else:
        inside = [(part, path) for part in value] if isinstance(value, list) else []
    for part, where in inside:
        yield from fields(part, where)
    if not inside and (path or value not in ({}, [])):
        yield path, json.dumps(value)
