"""The common part of the methods that learn from the model's own answers to training prompts."""

from collections.abc import Iterator, Sequence
from typing import Any

from stages.core.data.encoding import encode_texts
from stages.core.data.prompts import encode_segments
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.train.examples import refuse_too_long
from stages.train.methods.base import Method
from stages.train.methods.judged_answers import get_prompt
from stages.train.stored_examples import in_chunks


class OnPolicy(Method):
    """A method whose model answers each training prompt, and learns from these answers."""

    @property
    def fixed_arguments(self) -> dict[str, Any]:
        """Leave the template's arguments to `model.chat_template_kwargs`."""
        return {"chat_template_kwargs": None}

    def make_examples(self, records: Sequence[Record]) -> Iterator[dict[str, Any]]:
        """Yield examples with `prompt`, the rendered text.

        Raises:
            UserError: A record is of another kind, or a prompt leaves no room for the longest
                answer.
        """
        self.check_kinds(records)
        limit = self.config.model.max_length
        answer = self.config.train.args.get("max_completion_length") or 0
        too_long: list[tuple[str, int]] = []
        for row, (record, prompt, length) in enumerate(self._encode(records)):
            if length + answer > limit:
                too_long.append((record.id, length + answer))
            yield {"row": row, "prompt": prompt, "length": length}
        refuse_too_long(too_long, limit)

    def _encode(self, records: Sequence[Record]) -> Iterator[tuple[Record, str, int]]:
        """Yield each record, the text of its prompt and the number of its tokens."""
        instruction = self.config.prompt.tuned_system_prompt
        for chunk in in_chunks(records):
            segments = [get_prompt(self.tokenizer, record, instruction) for record in chunk]
            encoded = encode_segments(self.tokenizer, [[segment] for segment in segments])
            for record, segment, example in zip(chunk, segments, encoded, strict=True):
                yield record, segment.text, len(example.ids)

    def get_row_ids(self, row: dict[str, Any]) -> list[int]:
        """Return the token ids of the prompt."""
        return encode_texts(self.tokenizer, [row["prompt"]])[0]


def check_rows(rows: int, prompts: int) -> None:
    """Check that there are enough rows for the prompts of a batch, because TRL drops a smaller one.

    Raises:
        UserError: There are too few.
    """
    if rows < prompts:
        raise UserError(
            f"{rows} training row(s), but a batch needs {prompts} prompts. Lower "
            "train.args.gradient_accumulation_steps or "
            "train.args.per_device_train_batch_size."
        )
