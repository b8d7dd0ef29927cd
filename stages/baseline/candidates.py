"""List the candidate prompts among which a prompted arm chooses."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from stages.core.config.arms import REMOTE_ARM
from stages.core.config.prompt import PromptConfig


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to prompt the model: an instruction and a selection of examples."""

    instruction: str | None
    """The system message. None keeps the row's own."""
    examples: Literal["none", "drawn", "similar"]
    """No examples, the same drawn examples for every row, or those most similar to the row."""
    shots: int
    """The number of examples."""
    draw: int
    """The seed of the draw."""
    order: Literal["given", "reversed"]
    """`given` keeps drawn examples as drawn and puts the most similar example last."""
    balanced: bool
    """Whether the draw covers as many different targets as it can."""


def get_candidates(
    prompt: PromptConfig, arm: str, shots: Sequence[int], seed: int, *, repeated: bool
) -> list[Candidate]:
    """Return the candidates of an arm, the most important ones first.

    A search that cannot afford all of them drops the last ones first.

    Args:
        prompt: The instructions, and how many draws and orders of the examples to try.
        arm: `zero_shot`, `few_shot`, `retrieval` or `remote`.
        shots: The numbers of examples to try.
        seed: The seed of the first draw. Each further draw adds one.
        repeated: Whether any two training rows share a target. If not, every draw is balanced.
    """
    instructions = [prompt.system_prompt, *prompt.system_prompt_variants]
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
