"""The token with which a chat template ends an answer.

It is not always `tokenizer.eos_token`: the chats of Gemma end their turns with `<end_of_turn>`.
"""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from stages.core.data.control_tokens import get_control_tokens
from stages.core.data.marks import START
from stages.core.data.records import Message
from stages.core.data.templates import TemplateError, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTION: Message = {"role": "user", "content": "§question§"}
ANSWER: Message = {"role": "assistant", "content": "§answer§"}

_known: "WeakKeyDictionary[PreTrainedTokenizerBase, tuple[object, str | None]]" = (
    WeakKeyDictionary()
)


def get_end_ids(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Return the ids of the tokenizer's end token and of the end of a turn."""
    ends = {tokenizer.eos_token, get_turn_end(tokenizer)} - {None}
    return {int(tokenizer.convert_tokens_to_ids(end)) for end in ends}


def get_turn_end(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """Return the special token with which the chat template ends an answer.

    It is None if the template writes none there, or if it refuses a chat of two turns.
    """
    known = _known.get(tokenizer)
    if known is None or known[0] != tokenizer.chat_template:
        known = _known[tokenizer] = (tokenizer.chat_template, _find_turn_end(tokenizer))
    return known[1]


def cut_after_end(tokenizer: "PreTrainedTokenizerBase", answer: str) -> tuple[str, bool]:
    """Cut off what the template writes after the end of an answer, such as a line break.

    Args:
        tokenizer: The tokenizer with the chat template.
        answer: The answer as the template renders it.

    Returns:
        The answer, and whether it ends in a special token of the template.
    """
    ends = [end for end in (get_turn_end(tokenizer), tokenizer.eos_token) if end]
    special = _find_trailing(tokenizer, answer)
    if special:
        place = next((place for token, place in special if token in ends), special[-1][1])
        return answer[:place], True
    written = re.compile(f"(?<!{START})(?:{'|'.join(map(re.escape, ends))})")
    places = [found.end() for found in written.finditer(answer)]
    return (answer[: places[-1]], True) if places else (answer, False)


def get_last_special(tokenizer: "PreTrainedTokenizerBase", text: str) -> str | None:
    """Return the special token in which a rendered text ends, or None."""
    special = _find_trailing(tokenizer, text)
    return special[-1][0] if special else None


def _find_turn_end(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """Find the last special token that ends an answer and is still there once the chat goes on.

    Some templates write a token after the last answer alone, such as the end token of Phi-3. If
    all of them are like that, it is the first token after the answer.
    """
    closing = _render_after_answer(tokenizer, [QUESTION, ANSWER])
    following = _render_after_answer(tokenizer, [QUESTION, ANSWER, QUESTION])
    last = [token for token, _ in _find_trailing(tokenizer, closing)]
    pairs = zip(last, _find_leading(tokenizer, following), strict=False)
    staying = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    return next(iter(staying[-1:] or last), None)


def _render_after_answer(tokenizer: "PreTrainedTokenizerBase", chat: list[Message]) -> str:
    try:
        text = render(tokenizer, chat, (), answer=False)
    except TemplateError:
        return ""
    return text.partition(ANSWER["content"])[2]


def _find_trailing(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[tuple[str, int]]:
    """List the special tokens at the end of a text, with the place where each ends.

    Only white space may stand between them. Marked tokens are ordinary text.
    """
    special = _list_special(tokenizer)
    found = []
    rest = text.rstrip()
    while token := next((token for token in special if rest.endswith(token)), None):
        found.append((token, len(rest)))
        rest = rest[: -len(token)].rstrip()
    return found[::-1]


def _find_leading(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[str]:
    """List the special tokens at the start of a text, with only white space between them."""
    special = _list_special(tokenizer)
    found = []
    rest = text.lstrip()
    while token := next((token for token in special if rest.startswith(token)), None):
        found.append(token)
        rest = rest[len(token) :].lstrip()
    return found


def _list_special(tokenizer: "PreTrainedTokenizerBase") -> Sequence[str]:
    return get_control_tokens(tokenizer).special
