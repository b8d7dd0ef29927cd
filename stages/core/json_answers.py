"""JSON values in the answers of models, for metrics and checks."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry


def read_json_answer(text: str, validator: Validator | None) -> list[Any]:
    """The JSON value in `text`, or nothing where there is none or the schema refuses it."""
    return [value for value in islice(_values(text), 1) if validator is None or validator.is_valid(value)]


def _values(text: str) -> Iterator[Any]:
    """What can be read as JSON, the likeliest first."""
    whole = [(piece, None) for piece in (text, *re.findall(r"(?is)```(?:json)?\s(.*?)```", text))]
    for piece, start in whole + [(text, match.start()) for match in re.finditer(r"\{|\[\s*\{", text)]:
        with suppress(ValueError, RecursionError):
            value = _DECODER.decode(piece) if start is None else _DECODER.raw_decode(piece, start)[0]
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
