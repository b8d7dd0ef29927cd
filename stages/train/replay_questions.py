"""Questions of the task, without the system message that asks for the task.

The base model answers them for replay. A model that is trained on these answers beside the rows of
the task learns that the system message asks for the task, and answers other chats as before.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.core.data.prompts import build_prompt, encode_prompt
from stages.core.data.records import Message, Record
from stages.core.storage.files import sha256_json
from stages.train.replay_chats import alternate_system
from stages.train.replay_writer import ANSWER_TOKENS

if TYPE_CHECKING:
    from stages.train.methods.base import Method


def draw_questions(method: "Method", records: Sequence[Record], count: int) -> list[list[Message]]:
    """Draw the prompts of records by the seed, without their system messages.

    Records that are trained without a system message are left out, because the model would learn
    two answers to the same prompt. If the template adds a system message of its own, every second
    prompt begins with an empty one, so that the model answers both as before.

    Args:
        method: The training method, whose configuration has the task's system message.
        records: The records of the task.
        count: The number of prompts. There are fewer if fewer records have a system message, no
            tools, and room for an answer.
    """
    config = method.config
    limit = config.model.max_length - ANSWER_TOKENS
    asked: list[list[Message]] = []
    ids = [record.id for record in records]
    for i in sorted(range(len(ids)), key=lambda i: sha256_json([config.seed, ids[i]])):
        if len(asked) == count:
            break
        record = records[i]
        prompt = build_prompt(record, config.prompt.tuned_system_prompt)
        chat = [message for message in prompt if message["role"] != "system"]
        if not chat or len(chat) == len(prompt) or record.tools:
            continue
        if len(encode_prompt(method.tokenizer, chat)) <= limit:
            asked.append(chat)
    return alternate_system(method.tokenizer, asked)
