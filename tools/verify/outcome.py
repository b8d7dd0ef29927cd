"""The outcome of a check: whether what was recorded still holds, and why."""

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """Whether what was recorded is still true."""

    HOLDS = "holds"
    DRIFTED = "drifted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one check."""

    status: Status
    sentence: str


def holds(sentence: str) -> Outcome:
    """Return that what was recorded is still true."""
    return Outcome(Status.HOLDS, sentence)


def drifted(sentence: str) -> Outcome:
    """Return that something else is there now."""
    return Outcome(Status.DRIFTED, sentence)


def unknown(sentence: str) -> Outcome:
    """Return that it cannot be known on this machine."""
    return Outcome(Status.UNKNOWN, sentence)


def compare(found: object, recorded: object, sentence: str) -> Outcome:
    """Return whether two values are equal. The sentence is that of equal ones."""
    if recorded is None:
        return unknown("an earlier version of Tuneproof did not record it")
    if found == recorded:
        return holds(sentence)
    return drifted(f"recorded {_shorten(recorded)}, found {_shorten(found)}")


def _shorten(value: object) -> str:
    """Write a value for a message: of a hash its first digits."""
    text = str(value)
    return text[:12] if len(text) in (40, 64) else text[:200]
