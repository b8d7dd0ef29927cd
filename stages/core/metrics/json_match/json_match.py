"""Compute the share of rows whose answer is the JSON value of the reference."""

import json
from collections.abc import Sequence
from typing import Any

from stages.core.metrics.json_answers import JsonMetric, read_json_answer


class JsonMatch(JsonMetric):
    """Scores 1 if prediction and reference are the same JSON value (RFC 8259), and 0 otherwise.

    The value is the whole text, the inside of a ```json fence, or the first object or list of
    objects within other text. The order of keys and white space do not count, and 1 and 1.0 are the
    same number. A prediction is wrong if it has no value or the schema rejects its value.

    Options:
        schema: See `JsonMetric`.
    """

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        found = read_json_answer(prediction, self.validator)
        wanted = read_json_answer(reference, None)
        return float(bool(found) and canonical(found) == canonical(wanted)), 1.0


def canonical(value: Any) -> str:
    """Serialise a value so that equal values give the same text, but `true` and 1 do not."""
    return json.dumps(value, sort_keys=True)
