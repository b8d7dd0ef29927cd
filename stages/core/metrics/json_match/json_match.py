"""JSON match: the share of rows whose answer is the JSON value of the reference."""

import json
from collections.abc import Sequence
from typing import Any

from stages.core.metrics.json_answers import JsonMetric, read_json_answer


class JsonMatch(JsonMetric):
    """1 for a row whose prediction and reference are the same JSON value (RFC 8259), 0 otherwise.

    The value is the whole text, the inside of a ```json fence, or the first object or list of objects with other text
    around it. The order of keys and white space do not count; 1 and 1.0 are the same number. A text without a value is
    wrong, and so is a prediction that the schema refuses.

    Options: as `JsonMetric`.
    """

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        found = read_json_answer(prediction, self.validator)
        wanted = read_json_answer(reference, None)
        return float(bool(found) and canonical(found) == canonical(wanted)), 1.0


def canonical(value: Any) -> str:
    """A text that is the same for equal values, and another for `true` and 1."""
    return json.dumps(value, sort_keys=True)
