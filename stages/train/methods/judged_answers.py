"""Token ids of prompts and their answers, for methods that learn from judged answers."""

from collections.abc import Callable, Iterator, Sequence
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
from stages.train.examples import refuse_too_long
from stages.train.methods.base import Method
from stages.train.stored_examples import in_chunks

Ids = list[int]


def get_prompt(tokenizer: Any, record: Record, instruction: str | None) -> Segment:
    """Render the prompt of a record, up to where the assistant begins to answer."""
    return split_record(
        tokenizer, replace(record, kind="prompt", messages=record.prompt), instruction
    )[0]


def get_answer(
    tokenizer: Any, record: Record, message: Message, instruction: str | None
) -> Segment:
    """Render a message as the answer to a record, with the end of its turn."""
    answer = {key: value for key, value in message.items() if key != "weight"}
    return split_chat(tokenizer, [*build_prompt(record, instruction), answer], record.tools)[-1]


def get_length(row: list[Ids]) -> int:
    """Count the tokens of a prompt together with the longest of its answers."""
    return len(row[0]) + max(map(len, row[1:]))


class Judged(Method):
    """A method that learns from prompts and judged answers.

    TRL would tokenize a prompt together with its answer. The answer would then begin where the
    tokens differ from those of the prompt alone, which is not always where generation begins. Here
    the prompt is tokenized alone as in generation, and the answer alone as in
    `evaluate.target_loglikelihood`.
    """

    def encode(
        self, records: Sequence[Record], answers: Callable[[Record], list[Message]]
    ) -> Iterator[tuple[Record, list[Ids]]]:
        """Yield each record with the token ids of its prompt and of each of its answers.

        Raises:
            UserError: A record is of another kind, or is too long with one of its answers.
        """
        self.check_kinds(records)
        limit = self.config.model.max_length
        too_long: list[tuple[str, int]] = []
        for chunk in in_chunks(records):
            for record, row in zip(chunk, self._encode(chunk, answers), strict=True):
                if get_length(row) > limit:
                    too_long.append((record.id, get_length(row)))
                yield record, row
        refuse_too_long(too_long, limit)

    def _encode(
        self, records: Sequence[Record], answers: Callable[[Record], list[Message]]
    ) -> list[list[Ids]]:
        tokenizer = self.tokenizer
        instruction = self.config.prompt.tuned_system_prompt
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
        return [[next(encoded).ids for _ in part] for part in parts]
