"""Vary the chats that the base model answers for replay, so that no kind of chat means the task."""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from stages.core.data.prompts import EMPTY, encode_prompt, replaces_system
from stages.core.data.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def alternate_system(
    tokenizer: "PreTrainedTokenizerBase", chats: Sequence[list[Message]]
) -> list[list[Message]]:
    """Put an empty system message before every second chat, so that the model learns both kinds.

    Nothing changes if the template adds no system message of its own to a chat that has none.
    """
    if not replaces_system(tokenizer):
        return list(chats)
    return [[EMPTY, *chat] if number % 2 else chat for number, chat in enumerate(chats)]


def add_orders(
    tokenizer: "PreTrainedTokenizerBase",
    chats: Sequence[list[Message]],
    orders: Sequence[str],
    room: int,
) -> list[list[Message]]:
    """Put an order before the last message of half of the chats.

    Many requests say what to do and then give a text. If the text is like a question of the task,
    a tuned model would do the task, unless it has learned otherwise.

    Args:
        tokenizer: The tokenizer with the chat template.
        chats: The chats. They change in pairs, because `alternate_system` changes every second one.
        orders: The orders, which are used in turn.
        room: The maximum number of tokens of a chat. One that would be longer stays as it is.
    """
    left = cycle(orders)

    def add(chat: list[Message]) -> list[Message]:
        text = f"{next(left)}\n{chat[-1]['content']}"
        longer = [*chat[:-1], {**chat[-1], "content": text}]
        return longer if len(encode_prompt(tokenizer, longer)) <= room else chat

    return [add(chat) if orders and number % 4 > 1 else chat for number, chat in enumerate(chats)]
