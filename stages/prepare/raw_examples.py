"""Represent an unchecked row, independent of its format."""

import dataclasses
import math
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from stages.core.config.base import Kind
from stages.prepare.sources.json_values import find_unusable, parse

ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}
ROLES |= {"tool": "tool", "function": "tool"}


@dataclass(frozen=True, slots=True)
class Turn:
    """An unchecked message and its place in the row."""

    field: str
    message: Any
    own: bool = True
    """Whether the message is an object of the row. If not, it was built from the column `field`."""
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    """OpenAI's keys, each with the format's own key where the two differ."""

    @property
    def role(self) -> str | None:
        """The canonical role, or None if it is unknown."""
        role = self.message.get("role") if isinstance(self.message, dict) else None
        return ROLES.get(role) if isinstance(role, str) else None

    def at(self, key: str) -> str:
        """Return the place of a message's key under the name that the file uses."""
        return f"{self.field}.{self.names.get(key, key)}" if self.own else self.field


class Problem(NamedTuple):
    """A problem that the conversion from a format finds in a row."""

    code: str
    field: str
    found: str
    todo: str


@dataclass(frozen=True, slots=True)
class RawExample:
    """An unchecked row in the common form of all formats."""

    kind: Kind
    where: str
    """The column with the messages or with the question."""
    turns: list[Turn] | None
    """The prompt and the target, or None if there is no list of messages."""
    completion: list[Turn] = dataclasses.field(default_factory=list)
    """The target if the format keeps it in a column of its own. It follows `turns`."""
    rejected: list[Turn] = dataclasses.field(default_factory=list)
    answers: tuple[str, str] = ("completion", "rejected")
    """The names of the columns that `completion` and `rejected` come from."""
    tools: Any = None
    tools_at: str = "tools"
    parallel: Any = None
    """The value of `parallel_tool_calls`."""
    desirable: Any = None
    label: Any = None
    problems: list[Problem] = dataclasses.field(default_factory=list)


def parse_json(value: Any) -> Any:
    """Parse a text that holds a JSON list or object, and return any other value as is.

    Tables keep lists and objects as JSON text. The result is `Unusable` if a part of it is.
    """
    if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
        try:
            made = parse(value)
        except orjson.JSONDecodeError:
            return value
        found = find_unusable(made)
        return found[1] if found else made
    return value


def parse_messages(value: Any) -> Any:
    """Parse a text that holds a JSON list of messages, and return any other value as is.

    A question or an answer may itself be a JSON list, but its objects have no role.
    """
    if not isinstance(value, str) or value.lstrip()[:1] != "[":
        return value
    try:
        plain = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    if any(isinstance(part, dict) and "role" in part for part in plain):
        return parse_json(value)
    return value


def as_text(value: Any) -> Any:
    """Write a number, a boolean or a date of a column as text, in its JSON form if it has one.

    A whole number has one form, because pandas writes 1 as 1.0 if another row has no value.
    None stands for a missing value and for NaN. Any value that is not kept exactly is returned as
    it is.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer():
            return str(int(value)) if abs(value) < 2**53 else value
        return str(value) if math.isfinite(value) else value
    if isinstance(value, Decimal) and not value.is_finite():
        return None if value.is_nan() else value
    return (
        str(value) if isinstance(value, int | Decimal | date | time | timedelta | UUID) else value
    )


def as_boolean(value: Any) -> Any:
    """Convert the text of a boolean, and return any other value as is.

    Tables keep booleans as text.
    """
    known = {"true": True, "1": True, "false": False, "0": False}
    return known.get(value.strip().lower(), value) if isinstance(value, str) else value
