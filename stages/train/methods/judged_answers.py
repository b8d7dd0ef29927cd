"""Token ids of a prompt and of answers to it, for methods that learn from answers which were judged."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from stages.core.data.prompts import (
    Segment,
    build_prompt,
    encode_segments,
    split_chat,
    split_record,
)
from stages.core.data.records import Message, Record
from stages.train.examples import check_lengths
from stages.train.methods.base import Method

Ids = list[int]


def get_prompt(tokenizer: Any, record: Record, instruction: str | None) -> Segment:
    """The rendered prompt of a record, up to where the assistant begins to answer."""
    return split_record(
        tokenizer, replace(record, kind="prompt", messages=record.prompt), instruction
    )[0]


def get_answer(
    tokenizer: Any, record: Record, message: Message, instruction: str | None
) -> Segment:
    """The message rendered as the answer to a record, with the end of its turn."""
    answer = {key: value for key, value in message.items() if key != "weight"}
    return split_chat(tokenizer, [*build_prompt(record, instruction), answer], record.tools)[-1]


def get_length(row: list[Ids]) -> int:
    """Tokens of a prompt with the longest of its answers."""
    return len(row[0]) + max(map(len, row[1:]))


class Judged(Method):
    """A method that learns from prompts and judged answers.

    TRL would tokenize a prompt and its answer in one and let the answer begin where the two differ from the prompt
    alone, which is not always where generation begins. Here each is tokenized alone, as generation tokenizes the
    prompt and `evaluate.likelihood` the answer.
    """

    def encode(
        self, records: Sequence[Record], answers: Callable[[Record], list[Message]]
    ) -> list[list[Ids]]:
        """For each record the token ids of its prompt and of each of its answers.

        Raises:
            UserError: a record is of a kind that is not learned from, or too long with one of its answers.
        """
        self.check_kinds(records)
        tokenizer = self.tokenizer
        instruction = self.config.prompt.short_instruction
        parts = [
            [
                get_prompt(tokenizer, r, instruction),
                *(get_answer(tokenizer, r, m, instruction) for m in answers(r)),
            ]
            for r in records
        ]
        encoded = iter(
            encode_segments(tokenizer, [[segment] for part in parts for segment in part])
        )
        rows = [[next(encoded).ids for _ in part] for part in parts]
        check_lengths(records, [get_length(row) for row in rows], self.config.model.max_length)
        return rows
