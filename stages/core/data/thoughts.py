"""Separate what a thinking model answers from what it thinks before."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from stages.core.data.end_tokens import ANSWER, QUESTION
from stages.core.data.marks import unmark
from stages.core.data.templates import TemplateError, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPENING = "<think>"
CLOSING = "</think>"
TAIL = 16  # tokens at the end of a prompt that may spell the opening of a thought

_headers: "WeakKeyDictionary[PreTrainedTokenizerBase, tuple[object, str]]" = WeakKeyDictionary()


def decode_answer(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """Return the text of an answer without control tokens.

    Where the template begins an answer with control tokens (`get_header`), the text after the last
    of these headers is the answer. Nothing is left without a header, because the model has then not
    come to its answer.

    Args:
        tokenizer: The tokenizer with the chat template.
        ids: What the model wrote.
    """
    header = get_header(tokenizer)
    if not header:
        return tokenizer.decode(ids, skip_special_tokens=True)
    _, found, answer = tokenizer.decode(ids).rpartition(header)
    for token in tokenizer.all_special_tokens:
        answer = answer.replace(token, "")
    # Templates write line breaks after a thought.
    return (answer.lstrip() if header == CLOSING else answer) if found else ""


def get_header(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return what the chat template writes between a prompt and its answer, if it is no plain text.

    That of gpt-oss is `<|channel|>final<|message|>`, before which the model may think in another
    channel. It is the end of a thought if the tokenizer takes that for a control token. It is empty
    for most models, and without a template.
    """
    if not tokenizer.chat_template:
        return ""
    known = _headers.get(tokenizer)
    if known is None or known[0] != tokenizer.chat_template:
        known = _headers[tokenizer] = (tokenizer.chat_template, _find_header(tokenizer))
    return known[1]


def _find_header(tokenizer: "PreTrainedTokenizerBase") -> str:
    written = ""
    with suppress(TemplateError):
        asked = render(tokenizer, [QUESTION], (), answer=True)
        answered = render(tokenizer, [QUESTION, ANSWER], (), answer=False)
        if answered.startswith(asked):
            written = unmark(answered[len(asked) :]).partition(ANSWER["content"])[0]
    if not any(token in written for token in tokenizer.all_special_tokens):
        return ""
    return CLOSING if CLOSING in written else written


def read_answer(
    tokenizer: "PreTrainedTokenizerBase", prompt: list[int], text: str, target: str = ""
) -> str:
    """Return an answer without the thought before it.

    Args:
        tokenizer: The tokenizer. The text is returned unchanged if its template knows no thoughts, or
            if `decode_answer` has left them out.
        prompt: The token ids of the prompt, which may end within a thought.
        text: What the model wrote.
        target: The target. If it has a thought itself, the text is returned unchanged.
    """
    if CLOSING not in str(tokenizer.chat_template) or get_header(tokenizer):
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
