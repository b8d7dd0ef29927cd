"""The ways to ask among which a prompted arm chooses."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from stages.core.config.arms import REMOTE_ARM
from stages.core.config.prompt import PromptConfig


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to ask."""

    instruction: str | None
    """The system message; null keeps the row's own."""
    examples: Literal["none", "drawn", "similar"]
    """No solved rows, the same ones before every row, or those most similar to the row."""
    shots: int
    """How many of them."""
    draw: int
    """The seed of the draw."""
    order: Literal["given", "reversed"]
    """As drawn, or the most similar last; or the other way round."""
    balanced: bool
    """Whether the draw takes as many different targets as it can."""


def get_candidates(
    prompt: PromptConfig, arm: str, shots: Sequence[int], seed: int, *, repeated: bool
) -> list[Candidate]:
    """The candidates of an arm. A search that cannot afford all of them tries the first.

    Args:
        prompt: the instructions, and how many draws and orders of the examples to try.
        arm: `zero_shot`, `few_shot`, `retrieval` or `remote`.
        shots: the numbers of examples to try.
        seed: of the first draw; the next one has the next number.
        repeated: whether any two training rows have the same target: else every draw is balanced.
    """
    instructions = [prompt.instruction, *prompt.variants]
    orders: tuple[Literal["given", "reversed"], ...] = (
        ("given", "reversed") if prompt.search.reversed else ("given",)
    )
    without = [
        Candidate(instruction, "none", 0, seed, "given", balanced=False)
        for instruction in instructions
    ]
    similar = [
        Candidate(instruction, "similar", k, seed, order, balanced=False)
        for order, instruction, k in product(orders, instructions, shots)
    ]
    drawn = [
        Candidate(
            instruction,
            "drawn",
            k,
            seed + i,
            order,
            balanced=prompt.search.balanced and repeated and i % 2 == 1,
        )
        for i, order, instruction, k in product(
            range(prompt.search.draws), orders, instructions, shots
        )
    ]
    found = {
        "zero_shot": without,
        "few_shot": drawn,
        "retrieval": similar,
        REMOTE_ARM: without + drawn,
    }[arm]
    return [candidate for candidate in found if candidate.shots != 1 or candidate.order == "given"]
