"""Separate what a thinking model answers from what it thinks before."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPENING = "<think>"
CLOSING = "</think>"
TAIL = 16  # tokens at the end of a prompt that may spell the opening of a thought


def read_answer(
    tokenizer: "PreTrainedTokenizerBase", prompt: list[int], text: str, target: str = ""
) -> str:
    """Return an answer without the thought before it.

    Args:
        tokenizer: The tokenizer. The text is returned unchanged if its template knows no thoughts.
        prompt: The token ids of the prompt, which may end within a thought.
        text: What the model wrote.
        target: The target. If it has a thought itself, the text is returned unchanged.
    """
    if CLOSING not in str(tokenizer.chat_template):
        return text
    return drop_thought(tokenizer.decode(prompt[-TAIL:]), text, target)


def drop_thought(prompt: str, text: str, target: str = "") -> str:
    """Remove a thought at the start of a text. Nothing is left of a thought that has no end.

    Args:
        prompt: The rendered prompt or the end of it, which may open a thought.
        text: What the model wrote.
        target: The target. If it has a thought itself, the text is returned unchanged.
    """
    thinks = prompt.rstrip().endswith(OPENING) or text.lstrip().startswith(OPENING)
    return text.partition(CLOSING)[2].lstrip() if thinks and CLOSING not in target else text
