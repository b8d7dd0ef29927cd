"""What the server asks of whatever computes the answers."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class EngineError(Exception):
    """The engine has ended, or cannot answer a request."""


class OverloadedError(EngineError):
    """The engine has too many requests."""


class Step(NamedTuple):
    """The state of an answer."""

    ids: list[int]
    """All token ids of the answer so far, with the end token if there is one."""
    finished: bool


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one answer is generated."""

    max_new_tokens: int
    temperature: float = 0.0
    """0 is greedy decoding."""
    top_p: float = 1.0
    seed: int | None = None
    streaming: bool = False
    """Whether every token is reported. Otherwise only the finished answer is."""


class Engine(Protocol):
    """A model that answers many prompts at a time."""

    draws: bool
    """Whether it can sample, which a temperature above 0 needs."""
    seeds: bool
    """Whether a request's own seed decides what it draws."""

    def generate(self, prompt: list[int], sampling: Sampling) -> AsyncGenerator[Step, None]:
        """Answer a prompt. Closing the generator cancels the request.

        Raises:
            EngineError: See above.
        """

    def is_alive(self) -> bool:
        """Return whether the engine still answers."""

    def stop(self) -> None:
        """Stop the engine and free its memory. Further calls do nothing."""
