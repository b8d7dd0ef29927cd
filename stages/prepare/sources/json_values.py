"""Parse JSON so that nothing of it is lost without a word.

Parsers keep the last of several equal keys and round integers of more than 64 bits. Other programs
refuse values that are nested too deeply. Values of very many parts are refused too, because every
check takes time for each part.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

DEPTH = 100
"""Levels of lists and objects in a row. orjson writes at most 254, and later stages add some."""
PARTS = 20_000
"""Keys and values of all lists and objects in a row, such as 200 tools of 100 each.

The checks take about 6 µs for each. Tests hold them to their limit of time for a row.
"""
KEY = 50  # characters of a key in a finding


@dataclass(frozen=True, slots=True)
class Unusable:
    """Stands for a value that JSON can express but that cannot be kept as it is."""

    what: str
    todo: str


TOO_DEEP = Unusable(f"a value of more than {DEPTH} levels", "write it with fewer levels")
TOO_MANY = Unusable(
    f"more than {PARTS:,} keys and values in one row", "split the row, or remove what is not needed"
)


def parse(text: bytes | str) -> Any:
    """Parse JSON, with `Unusable` in place of what would be lost.

    The result is `TOO_DEEP` if the value has far more levels than `DEPTH`. Of any other value
    `find_unusable` must tell whether it can be used.

    Raises:
        orjson.JSONDecodeError: The text is not JSON.
    """
    orjson.loads(text)  # refuses what the decoder of the standard library accepts, such as NaN
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        return TOO_DEEP


def _to_object(pairs: list[tuple[str, Any]]) -> Any:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
    return Unusable(f"an object with the key {key[:KEY]!r} more than once", "keep one of them")


def _to_integer(digits: str) -> Any:
    if len(digits) > len(str(2**64)) or not -(2**63) <= int(digits) < 2**64:
        return Unusable("an integer of more than 64 bits", "write it as text")
    return int(digits)


NESTED = (dict, list, tuple, Unusable)
_DECODER = json.JSONDecoder(object_pairs_hook=_to_object, parse_int=_to_integer)


def find_unusable(value: Any) -> tuple[str, Unusable] | None:
    """Return the place of the first part of a value that cannot be used, and that part, or None."""
    parts = 0
    for depth, level in enumerate(_levels(value)):
        if depth == DEPTH:
            return find_deepest(value), TOO_DEEP
        if any(isinstance(part, Unusable) for part in level):
            path, found = next(step for step in _walk(value) if isinstance(step[1], Unusable))
            return path.removeprefix("."), found
        parts += _count_of_level(level)
        if parts > PARTS:
            return _find_most(value, _count_parts), TOO_MANY
    return None


def find_deepest(value: Any) -> str:
    """Return the step to the part of a value with the most levels."""
    return _find_most(value, _count_levels)


def _find_most(value: Any, count: Callable[[Any], int]) -> str:
    """Return the step to the part of a value with the largest count."""
    path, _ = max(_steps(value), key=lambda step: count(step[1]))
    return path.removeprefix(".")


def find_foreign(value: Any) -> str | None:
    """Describe the first part of a value that JSON lacks, such as a date or infinity, or None."""
    for path, part in _walk(value):
        exact = isinstance(part, str | dict | list | int) or part is None
        if isinstance(part, float):
            exact = math.isfinite(part)
        if not exact:
            what = str(part) if isinstance(part, float) else f"a {type(part).__name__}"
            return f"{what} at {path.removeprefix('.')[:KEY]}, which JSON lacks"
    return None


def _values(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _levels(value: Any) -> Iterator[list[Any]]:
    """Yield the lists, objects and `Unusable`s of each level of a value."""
    level = [value]
    while level := [part for part in level if isinstance(part, NESTED)]:
        yield level
        level = [child for part in level for child in _values(part)]


def _count_levels(value: Any) -> int:
    return sum(1 for _ in _levels(value))


def _count_parts(value: Any) -> int:
    return sum(map(_count_of_level, _levels(value)))


def _count_of_level(level: list[Any]) -> int:
    """Count the keys and values in the lists and objects of a level."""
    return sum(len(_values(part)) * (1 + isinstance(part, dict)) for part in level)


def _steps(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a list or object, each with the step that leads to it."""
    if isinstance(value, dict):
        yield from ((f".{key}", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{i}]", part) for i, part in enumerate(value))


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield all parts of a value in order, each with its path."""
    stack = [("", value)]
    while stack:
        path, part = stack.pop()
        yield path, part
        stack += [(path + step, child) for step, child in reversed(list(_steps(part)))]
