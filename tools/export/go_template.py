"""Write the chat template of a model as a template of Ollama, which is in the language Go.

Only the texts around the messages are derived. Whether that is all that the template does is then
checked by rendering chats with both. A template that does more has no translation.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product, takewhile
from typing import TYPE_CHECKING

from stages.core.data.records import Message
from stages.core.data.templates import TemplateError, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = {"s": "system", "u": "user", "a": "assistant"}
ORDERS = ("u", "su", "uau", "suau", "uauau", "suauau")
"""The roles of the chats on which a translation is checked, by their first letters."""
CONTENT = "{{ .Content }}"
BROKEN = ("{{", "}}", '"""')
"""What a Modelfile reads as its own in the text of a template."""


class NoTranslationError(Exception):
    """The template does more than is derived here. The message says what."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The texts that a chat template writes."""

    header: str
    """Before a chat without a system message."""
    around: dict[str, tuple[str, str]]
    """Before and after the text of a message, by role."""
    answer: str
    """Where the assistant begins to answer."""


def translate(tokenizer: "PreTrainedTokenizerBase", system: str | None, added: str) -> str:
    """Return a template of Ollama that renders chats as the chat template of a tokenizer does.

    Args:
        tokenizer: The tokenizer.
        system: The system message of chats that have none. Ollama adds it itself, but cannot add an
            empty one. None leaves these chats to the template.
        added: What Ollama's tokenizer writes before each prompt itself, such as `<s>`.

    Raises:
        NoTranslationError: The template does more than to write texts around messages.
    """
    try:
        text = _write(_derive(tokenizer, system, added))
        for chat, default in product(list_chats(), (system, None) if system else (system,)):
            asked = complete(chat, default)
            expected = render(tokenizer, asked, (), answer=True).removeprefix(added)
            if render_go(text, complete(chat, default or None)) != expected:
                roles = ", ".join(message["role"] for message in asked)
                raise NoTranslationError(f"a chat of {roles} is rendered otherwise")
    except TemplateError as error:
        raise NoTranslationError(str(error)) from None
    return text


def list_chats() -> list[list[Message]]:
    """List chats on which a translation is checked."""
    return [
        [
            {"role": ROLES[letter], "content": f"Text {i}.\n\n- of {ROLES[letter]}"}
            for i, letter in enumerate(order)
        ]
        for order in ORDERS
    ]


def complete(chat: list[Message], system: str | None) -> list[Message]:
    """Add the system message to a chat that has none."""
    if system is None or chat[0]["role"] == "system":
        return chat
    return [{"role": "system", "content": system}, *chat]


def render_go(text: str, chat: Sequence[Message]) -> str:
    """Render a chat with a template of the form that `translate` writes, as Go would."""
    header, looped, answer = re.split(
        r"\{\{ range \.Messages \}\}|\{\{ end \}\}\{\{ end \}\}", text
    )
    branches = re.split(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}', looped)[1:]
    by_role = dict(zip(branches[::2], branches[1::2], strict=True))
    has_system = any(message["role"] == "system" and message["content"] for message in chat)
    written = "" if has_system else re.sub(r"\{\{.*?\}\}", "", header)
    for message in chat:
        written += by_role.get(message["role"], "").replace(CONTENT, message["content"])
    return written + answer


def _derive(tokenizer: "PreTrainedTokenizerBase", system: str | None, added: str) -> Parts:
    """Find the texts around the messages by rendering chats with marks in the place of their texts."""
    between = list(_split(tokenizer, "suauau", answer=True))
    after_user = list(_split(tokenizer, "su", answer=False))[-1]
    # Some templates write more after the last answer of a chat than after the others.
    after_assistant = _get_common_start(
        list(_split(tokenizer, "sua", answer=False))[-1], between[3]
    )
    before_user = _cut(between[3], start=after_assistant)
    before_chat = next(_split(tokenizer, "u", answer=True, system="" if system == "" else None))
    return Parts(
        header=_cut(before_chat, end=before_user).removeprefix(added),
        around={
            "system": (between[0].removeprefix(added), _cut(between[1], end=before_user)),
            "user": (before_user, after_user),
            "assistant": (_cut(between[2], start=after_user), after_assistant),
        },
        answer=_cut(between[-1], start=after_user),
    )


def _split(
    tokenizer: "PreTrainedTokenizerBase", order: str, *, answer: bool, system: str | None = None
) -> Iterator[str]:
    """Yield the text before, between and after the texts of a chat."""
    marks = [f"§{ROLES[letter]}{i}§" for i, letter in enumerate(order)]
    chat: list[Message] = [
        {"role": ROLES[letter], "content": mark} for letter, mark in zip(order, marks, strict=True)
    ]
    rest = render(tokenizer, complete(chat, system), (), answer=answer)
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found:
            raise NoTranslationError("the texts of a chat are not written in their order")
        yield before
    yield rest


def _get_common_start(a: str, b: str) -> str:
    return "".join(
        x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    )


def _cut(text: str, start: str = "", end: str = "") -> str:
    if not (text.startswith(start) and text.endswith(end)):
        raise NoTranslationError("the text around a message depends on its neighbours")
    return text[len(start) : len(text) - len(end)]


def _write(parts: Parts) -> str:
    texts = [parts.header, parts.answer, *(text for pair in parts.around.values() for text in pair)]
    if any(broken in text for broken in BROKEN for text in texts):
        raise NoTranslationError("it writes braces or quotes, which a Modelfile reads as its own")
    header = f"{{{{ if not .System }}}}{parts.header}{{{{ end }}}}" if parts.header else ""
    branches = [
        f'if eq .Role "{role}" }}}}{before}{CONTENT}{after}'
        for role, (before, after) in parts.around.items()
    ]
    looped = "{{ else ".join(branches)
    return f"{header}{{{{ range .Messages }}}}{{{{ {looped}{{{{ end }}}}{{{{ end }}}}{parts.answer}"
