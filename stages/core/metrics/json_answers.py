"""JSON values in the answers of models, and what the metrics of JSON have in common."""

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


class JsonMetric(RowMetric, ABC):
    """The targets are JSON values (RFC 8259), bare or with other text around them.

    Options:
        schema: a JSON Schema, as a mapping or as the path of a .json file; what it refers to must be in it.
    """

    advice = "mend the targets that the schema refuses, or the schema"

    def prepare(
        self, references: Sequence[str], schema: Mapping[str, Any] | str | None = None
    ) -> None:
        """Take the schema.

        Raises:
            ValueError: it is none, or a reference has no JSON value.
        """
        self.validator = compile_schema(schema)
        if (
            bad := next((text for text in references if not read_json_answer(text, None)), None)
        ) is not None:
            raise ValueError(
                f"the target {bad!r:.200} has no JSON value; mend it or choose another metric"
            )
        self.bare = all(is_json(text, None) for text in references)

    def well_formed(self, prediction: str) -> bool:
        """Whether the whole answer is JSON by the schema; if targets have text around theirs, the answer may too."""
        return is_json(prediction, self.validator) or (
            not self.bare and bool(read_json_answer(prediction, self.validator))
        )


def is_json(text: str, validator: Validator | None) -> bool:
    """Whether the whole text is one JSON value that the schema allows."""
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return False
    return validator is None or validator.is_valid(value)


def read_json_answer(text: str, validator: Validator | None) -> list[Any]:
    """The JSON value in `text`, or nothing where there is none or the schema refuses it."""
    return [
        value
        for value in islice(_values(text), 1)
        if validator is None or validator.is_valid(value)
    ]


def _values(text: str) -> Iterator[Any]:
    """What can be read as JSON, the likeliest first."""
    whole = [(piece, None) for piece in (text, *re.findall(r"(?is)```(?:json)?\s(.*?)```", text))]
    for piece, start in whole + [
        (text, match.start()) for match in re.finditer(r"\{|\[\s*\{", text)
    ]:
        with suppress(ValueError, RecursionError):
            value = (
                _DECODER.decode(piece) if start is None else _DECODER.raw_decode(piece, start)[0]
            )
            json.dumps(value)  # what is nested too deep for this is for the comparison as well
            yield value


def compile_schema(schema: Mapping[str, Any] | str | None) -> Validator | None:
    """What checks a value against the schema, if there is one; fetches nothing."""
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
    """1 for 1.0, so that both read the same."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _refuse(name: str) -> None:
    """NaN and Infinity, which Python reads, are no JSON."""
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_float=_number, parse_constant=_refuse)
