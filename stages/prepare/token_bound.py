"""Recognise rows that are far above the limit of tokens, before their tokens are counted.

Tokenizing 1 MB takes up to a second, and rendering a chat once per answer takes time that is
quadratic in the number of turns.
"""

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from stages.core.data.prompts import Segment, encode_segments, split_record
from stages.core.data.records import Message, Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MANY_TURNS = 50  # messages, from which the chat is rendered once to count its tokens
SAFE = 2
"""The multiple of the limit from which tokens that are counted in one piece are surely too many.

The turns are encoded one by one, so the numbers may differ by a few tokens at the ends of turns.
"""
START = 4
"""The characters for each token of the limit that a shortened text has at first."""
SHRINKS = 3
"""How many times fewer bytes NFC can make of a text (three letters of Hangul become one)."""


class TokenBound:
    """Tells which records must have more tokens than the limit."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", limit: int, instruction: str | None
    ) -> None:
        self._tokenizer = tokenizer
        self._limit = limit
        self._instruction = instruction
        self._longest = longest_token(tokenizer)

    def find_least(self, record: Record) -> int | None:
        """Return a number of tokens above the limit that the record has at least, or None.

        Raises:
            TemplateError: The model's chat template refuses the record.
        """
        turns = len(record.messages)
        if turns > self._limit and record.kind != "text":
            return turns  # a template writes at least one token for a turn, its end
        size = sum(len(message["content"]) for message in record.messages)
        large = self._longest is not None and 4 * size > self._limit * self._longest
        many = turns > MANY_TURNS
        if record.kind == "text" or not (large or many or record.tools):
            return None
        # Of several answers all but the last count as read only, so that it is rendered once.
        once = replace(
            record, messages=[*map(_read_only, record.messages[:-1]), *record.messages[-1:]]
        )
        segments = split_record(self._tokenizer, once, self._instruction)
        least = self._count_least(segments)
        if least <= self._limit and many:
            [example] = encode_segments(self._tokenizer, [segments])
            least = len(example.ids) // SAFE
        return least if least > self._limit else None

    def shorten(self, record: Record, least: int) -> Record | None:
        """Cut the longest message of the prompt to a length that is still above the limit.

        Args:
            record: The record.
            least: The tokens that it has at least.

        Returns:
            The shorter record, or None if no cut of that message makes the record fit.
        """
        prompt = record.prompt
        if not prompt or self._longest is None:
            return None
        i = max(range(len(prompt)), key=lambda i: len(prompt[i]["content"]))
        saved = len(record.messages[i]["content"].encode("utf-8", "replace"))  # tokens, at most
        if least - saved > self._limit or self.find_least(_with_content(record, i, "")):
            return None
        # A template may trim the text, so that white space at its end would not count.
        content = record.messages[i]["content"]
        end = content[len(content.rstrip()) :][: self._limit]
        content = content.rstrip()
        size = START * self._limit
        while size < len(content) and self._count(content[-size:]) <= self._limit:
            size *= START
        return _with_content(record, i, content[-size:] + end)

    def _count(self, text: str) -> int:
        [example] = encode_segments(self._tokenizer, [[Segment(text, False)]])
        return len(example.ids)

    def _count_least(self, segments: list[Segment]) -> int:
        if self._longest is None:
            return 0
        size = sum(len(segment.text.encode("utf-8", "replace")) for segment in segments)
        return size // self._longest


def longest_token(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """Return how many bytes of a text its longest token can stand for.

    Returns:
        The bytes, or None if the tokenizer may leave out parts of a text or replace a part of any
        length by one token. Only byte-level BPE is known to do neither.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    parts = json.loads(backend.to_str())
    first = parts["pre_tokenizer"] or {}
    steps = first.get("pretokenizers", [first])
    loses = any(step.get("behavior") == "Removed" for step in steps)
    normalizer = (parts["normalizer"] or {"type": None})["type"]
    added = parts["added_tokens"]
    if (
        parts["model"]["type"] != "BPE"
        or not any(step.get("type") == "ByteLevel" for step in steps)
        or loses
        or normalizer not in {None, "NFC"}
        or any(token["lstrip"] or token["rstrip"] for token in added)
    ):
        return None
    # A character of the vocabulary stands for a byte.
    lengths = map(len, parts["model"]["vocab"])
    longest = max([*lengths, *(len(token["content"].encode()) for token in added)])
    return longest * (SHRINKS if normalizer else 1)


def _read_only(message: Message) -> Message:
    return message | {"weight": 0} if message["role"] == "assistant" else message


def _with_content(record: Record, i: int, content: str) -> Record:
    messages = list(record.messages)
    messages[i] = messages[i] | {"content": content}
    return replace(record, messages=messages)
