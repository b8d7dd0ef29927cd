"""Read JSON values from model answers, for the JSON metrics."""

import json
import re
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry

from stages.core.metrics.row_metric import RowMetric

DEPTH = 100  # levels of a value; Python's own code for JSON and this module's are recursive


class JsonMetric(RowMetric, ABC):
    """A metric whose targets are JSON values (RFC 8259), bare or with other text around them.

    Options:
        schema: A JSON Schema, given as a mapping or as the path of a .json file. It must contain
            everything that it refers to.
    """

    advice = "fix the schema or the targets that it rejects"

    def prepare(
        self, references: Sequence[str], schema: Mapping[str, Any] | str | None = None
    ) -> None:
        """Compile the schema and check the references.

        Raises:
            ValueError: The schema is not a valid JSON Schema, or a reference has no JSON value.
        """
        self.validator = compile_schema(schema)
        if (
            bad := next((text for text in references if not read_json_answer(text, None)), None)
        ) is not None:
            raise ValueError(
                f"the target {bad!r:.200} has no JSON value; fix it, or choose another metric"
            )
        self.bare = all(is_json(text, None) for text in references)

    def well_formed(self, prediction: str) -> bool:
        """Check whether the whole answer is JSON that the schema allows.

        If targets have text around their JSON value, answers may have it too.
        """
        return is_json(prediction, self.validator) or (
            not self.bare and bool(read_json_answer(prediction, self.validator))
        )


def is_json(text: str, validator: Validator | None) -> bool:
    """Check whether the whole text is one JSON value that the schema allows."""
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return False
    return validator is None or validator.is_valid(value)


def read_json_answer(text: str, validator: Validator | None) -> list[Any]:
    """Read the JSON value in a text.

    Returns:
        A list of that value. It is empty if there is no value, or if the schema rejects it.
    """
    return [
        value
        for value in islice(_values(text), 1)
        if validator is None or validator.is_valid(value)
    ]


def _values(text: str) -> Iterator[Any]:
    """Yield what can be read as JSON, most likely value first."""
    whole = [(piece, None) for piece in (text, *re.findall(r"(?is)```(?:json)?\s(.*?)```", text))]
    for piece, start in whole + [
        (text, match.start()) for match in re.finditer(r"\{|\[\s*\{", text)
    ]:
        with suppress(ValueError, RecursionError):
            value = (
                _DECODER.decode(piece) if start is None else _DECODER.raw_decode(piece, start)[0]
            )
            if _is_shallow(value):
                yield value


def _is_shallow(value: Any, room: int = DEPTH) -> bool:
    """Return whether a value is nested so little that any metric can compare it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return room > 0 and all(_is_shallow(each, room - 1) for each in inner)


def compile_schema(schema: Mapping[str, Any] | str | None) -> Validator | None:
    """Build a validator for the schema, if there is one, that never fetches references."""
    if schema is None:
        return None
    given = json.loads(Path(schema).read_text("utf-8")) if isinstance(schema, str) else dict(schema)
    kind = validator_for(given, default=Draft202012Validator)
    try:
        kind.check_schema(given)
    except SchemaError as error:
        raise ValueError(f"schema: {error.message}") from None
    return kind(given, registry=Registry())


def _number(text: str) -> float:
    """Read 1.0 as 1, so that the two are equal."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _refuse(name: str) -> None:
    """Reject NaN and Infinity, which Python accepts but JSON does not allow."""
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_float=_number, parse_constant=_refuse)
