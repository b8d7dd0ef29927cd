"""Explain why a chat template cannot be used, because it renders a prompt in two ways.

Training sees answered chats. If their prompts are rendered differently from prompts that are still
open, training would use prompts that are never asked. Templates of thinking models differ in where
they open and close a thought.
"""

from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING

from stages.core.data.marks import unmark
from stages.core.data.records import Message
from stages.core.data.template_arguments import KEY, list_arguments, set_arguments
from stages.core.data.templates import TemplateError, Tools, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN_BEFORE = 40  # characters of two renderings before their first difference
SHOWN_AFTER = 40


def explain_difference(
    tokenizer: "PreTrainedTokenizerBase", chat: list[Message], tools: Tools
) -> str:
    """Show both renderings of a prompt around their first difference, and say what to do.

    Args:
        tokenizer: The tokenizer with the chat template.
        chat: The prompt and its answer.
        tools: The tools that may be called.
    """
    texts = [unmark(text) for text in _render_both(tokenizer, chat, tools)]
    pairs = enumerate(zip(*texts, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(map(len, texts)))
    shown = slice(max(0, at - SHOWN_BEFORE), at + SHOWN_AFTER)
    argument = _find_argument(tokenizer, chat, tools)
    return (
        "the model's chat template renders the prompt differently once the chat is answered:\n"
        f"  open:     …{texts[0][shown]!r}\n  answered: …{texts[1][shown]!r}\n"
        + (
            f"It renders both alike with an argument: set +{KEY}.{argument}."
            if argument
            else "Give a template that renders both alike as model.chat_template, or choose "
            "another model."
        )
    )


def _find_argument(
    tokenizer: "PreTrainedTokenizerBase", chat: list[Message], tools: Tools
) -> str | None:
    """Find an argument with which the template renders both alike, such as `name=false`."""
    template = tokenizer.chat_template
    texts = template.values() if isinstance(template, dict) else [template]
    names = sorted(set().union(*map(list_arguments, texts)))
    try:
        for name, value in product(names, (False, True)):
            tokenizer.chat_template = set_arguments(template, {name: value})
            with suppress(TemplateError):
                asked, answered = _render_both(tokenizer, chat, tools)
                if answered.startswith(asked):
                    return f"{name}={str(value).lower()}"
    finally:
        tokenizer.chat_template = template
    return None


def _render_both(
    tokenizer: "PreTrainedTokenizerBase", chat: list[Message], tools: Tools
) -> tuple[str, str]:
    asked = render(tokenizer, chat[:-1], tools, answer=True)
    return asked, render(tokenizer, chat, tools, answer=False)
