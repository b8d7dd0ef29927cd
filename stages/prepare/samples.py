"""A row before its checks, whatever form it came in."""

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from stages.core.config.base import Kind

ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}
ROLES |= {"tool": "tool", "function": "tool"}


@dataclass(frozen=True, slots=True)
class Turn:
    """What stands for a message, and where in the row."""

    field: str
    message: Any
    own: bool = True
    """Whether the message is an object of the row; else it was made from the column `field`."""
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    """OpenAI's keys -> the format's own, where they differ."""

    @property
    def role(self) -> str | None:
        """The canonical role, or None where it is unknown."""
        role = self.message.get("role") if isinstance(self.message, dict) else None
        return ROLES.get(role) if isinstance(role, str) else None

    def at(self, key: str) -> str:
        """The place of a message's key as the file names it."""
        return f"{self.field}.{self.names.get(key, key)}" if self.own else self.field


class Problem(NamedTuple):
    """What a format itself finds wrong with a row."""

    code: str
    field: str
    found: str
    todo: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A row before its checks."""

    kind: Kind
    where: str
    """The column with the messages, or with the question."""
    turns: list[Turn] | None
    """Prompt and target; None where there is no list of messages."""
    completion: list[Turn] = dataclasses.field(default_factory=list)
    """What stands for the target where the format names it; it comes after `turns`."""
    rejected: list[Turn] = dataclasses.field(default_factory=list)
    answers: tuple[str, str] = ("completion", "rejected")
    """The columns of `completion` and of `rejected`."""
    tools: Any = None
    tools_at: str = "tools"
    parallel: Any = None
    """`parallel_tool_calls`."""
    desirable: Any = None
    label: Any = None
    problems: list[Problem] = dataclasses.field(default_factory=list)


def parse_json(value: Any) -> Any:
    """The list or object that a text holds, for tables keep them as JSON text; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def as_boolean(value: Any) -> Any:
    """What a table, which has no booleans, means by a text; anything else as it is."""
    known = {"true": True, "1": True, "false": False, "0": False}
    return known.get(value.strip().lower(), value) if isinstance(value, str) else value
