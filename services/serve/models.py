"""A registered version as it is served: the model with its tokenizer, asked as it was evaluated."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from services.serve.answer_text import AnswerText
from services.serve.engine import Engine
from services.serve.errors import ApiError
from services.serve.settings import ServeConfig
from stages.core.data.prompts import build_prompt, encode_prompt
from stages.core.data.records import Message, Record
from stages.core.data.thoughts import get_header
from stages.core.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ChatModel:
    """A model that answers chats."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: "PreTrainedTokenizerBase",
        asked: dict[str, Any],
        ends: set[int],
        settings: ServeConfig,
    ) -> None:
        """Take what answers, how it was asked (`read_asked`), and the tokens that end an answer."""
        self.engine = engine
        self.ends = ends
        self.limit = get_limit(asked, settings)
        self.max_new_tokens: int = asked["max_new_tokens"]
        self._instruction = (
            asked["system_prompt"] if settings.system_prompt == "evaluated" else None
        )
        # Encoding changes the state of a tokenizer, so it needs a thread and a tokenizer of its own.
        self._encoding = tokenizer
        self._thread = ThreadPoolExecutor(1, "encode")
        self._longest = max(map(len, tokenizer.get_vocab()))
        self._decoding = deepcopy(tokenizer)
        get_header(self._decoding)  # renders a chat, which is done once

    async def encode(self, messages: list[Message]) -> list[int]:
        """Return the token ids of a prompt, with the evaluated system prompt if it has none.

        Raises:
            ApiError: The chat template refuses the chat, or it is too long.
        """
        characters = sum(len(message["content"]) for message in messages)
        if characters > self.limit * self._longest:  # to encode them would keep others waiting
            raise self._refuse_length(f"{characters} characters, which are more tokens")
        loop = asyncio.get_running_loop()
        ids = await loop.run_in_executor(self._thread, self._encode, messages)
        if len(ids) >= self.limit:
            raise self._refuse_length(f"{len(ids)} tokens")
        return ids

    def _refuse_length(self, have: str) -> ApiError:
        said = (
            f"This model's limit is {self.limit} tokens, of which an answer needs at least one. "
            f"Your messages have {have}. Shorten the messages."
        )
        return ApiError(400, said, "context_length_exceeded", "messages")

    def get_max_new_tokens(self, prompt: list[int], asked: int | None) -> int:
        """Return the limit of an answer, which is by default the evaluated one.

        Raises:
            ApiError: The client asks for more than fits.
        """
        room = self.limit - len(prompt)
        if asked is not None and asked > room:
            raise ApiError(
                400,
                f"This model's limit is {self.limit} tokens. You asked for {len(prompt)} tokens of "
                f"messages and {asked} of the answer. Shorten either.",
                "context_length_exceeded",
                "messages",
            )
        return min(asked or self.max_new_tokens, room)

    def read(self, prompt: list[int], stops: list[str]) -> AnswerText:
        """Return what reads the text of an answer to a prompt."""
        return AnswerText(self._decoding, prompt, stops)

    def is_alive(self) -> bool:
        """Return whether the model still answers."""
        return self.engine.is_alive()

    def stop(self) -> None:
        """Stop the engine and free its memory."""
        self.engine.stop()
        self._thread.shutdown()

    def _encode(self, messages: list[Message]) -> list[int]:
        own = any(message["role"] == "system" for message in messages)
        record = Record.of(messages, kind="prompt")
        prompt = build_prompt(record, None if own else self._instruction)
        try:
            return encode_prompt(self._encoding, prompt)
        except UserError as error:
            raise ApiError(
                400, f"Invalid 'messages': {error}", "invalid_value", "messages"
            ) from None


def get_limit(asked: dict[str, Any], settings: ServeConfig) -> int:
    """Return how many tokens a prompt and its answer, or a classifier's text, may have."""
    return min(asked["max_length"], settings.max_length or asked["max_length"])
