"""A condition of the gate as a record, and how it is written down."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stages.core.tracking.runs import PREFIX

GATE = PREFIX + "gate."
"""The prefix of a version's tags that hold the conditions of the gate."""
PASSED = "passed"
FAILED = "failed"
TAG_LENGTH = 500  # characters of a tag; the card and metrics/register.json have the whole sentence


@dataclass(frozen=True, slots=True)
class Condition:
    """The outcome of one condition of the gate."""

    name: str
    """The name under which it is recorded, such as `champion`."""
    passed: bool
    sentence: str
    """What was found, what the gate requires, and for a failed condition what to do."""
    value: float | str | None = None
    """What was measured."""
    bound: float | None = None
    """The end of the interval of `value` that counts, or None if the value itself counts."""
    limit: float | None = None
    """What the bound, or else the value, is held against."""

    @property
    def line(self) -> str:
        """The condition as a line of a review."""
        return f"{PASSED if self.passed else FAILED}: {self.sentence}"


def describe_conditions(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """Return the conditions for `metrics/register.json`. A number that is not finite is null."""
    return [
        {key: None if _is_no_number(value) else value for key, value in asdict(condition).items()}
        for condition in conditions
    ]


def get_gate_tags(conditions: Sequence[Condition]) -> dict[str, str]:
    """Return the conditions as tags of a version, such as `passed: 0.12, bound 0.08, limit 0`."""
    return {GATE + condition.name: _summarize(condition) for condition in conditions}


def list_failed(tags: Mapping[str, str]) -> list[str]:
    """List the conditions that did not pass, by the tags of a version without `PREFIX`."""
    start = GATE.removeprefix(PREFIX)
    return [
        key.removeprefix(start)
        for key, text in tags.items()
        if key.startswith(start) and not text.startswith(PASSED)
    ]


def write_value(value: float | str) -> str:
    """Write a value of a condition for people."""
    return value if isinstance(value, str) else f"{value:.4g}"


def _summarize(condition: Condition) -> str:
    if condition.value is None:
        return condition.line[:TAG_LENGTH]
    numbers = {"bound": condition.bound, "limit": condition.limit}
    parts = [f"{name} {write_value(value)}" for name, value in numbers.items() if value is not None]
    status = PASSED if condition.passed else FAILED
    return f"{status}: {', '.join([write_value(condition.value), *parts])}"[:TAG_LENGTH]


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
