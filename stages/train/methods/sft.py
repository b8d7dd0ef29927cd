"""Supervised fine-tuning on the answers of chats or on plain text."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.data.prompts import Example, encode_segments, split_record
from stages.core.data.records import Record
from stages.core.planning.auto import AUTO
from stages.core.planning.model_dimensions import get_model_dimensions
from stages.train.examples import IGNORED, make_example, refuse_too_long
from stages.train.methods.base import Method
from stages.train.stored_examples import in_chunks

if TYPE_CHECKING:
    from transformers import Trainer

    from stages.train.monitoring.training_progress import TrainingProgress


class Answers(Method):
    """Supervised fine-tuning.

    In chats the loss is on the answers of weight 1 and on the ends of their turns. In plain text it
    is on every token.
    """

    @property
    def arguments(self) -> type:
        """Return the class of TRL's training arguments for supervised fine-tuning."""
        from trl import SFTConfig

        return SFTConfig

    @property
    def fixed_arguments(self) -> dict[str, Any]:
        """Skip TRL's tokenization, because `get_examples` tokenizes prompts as generation does."""
        return {"dataset_kwargs": {"skip_prepare_dataset": True}}

    def make_examples(self, records: Sequence[Record]) -> Iterator[dict[str, Any]]:
        """Yield examples with `input_ids` and `labels`.

        Plain text is cut into pieces of `model.max_length` tokens.

        Raises:
            UserError: A record is of another kind, or a chat is longer than the limit.
        """
        self.check_kinds(records)
        limit = self.config.model.max_length
        too_long: list[tuple[str, int]] = []
        for row, (record, (ids, trained)) in enumerate(self._encode(records)):
            size = limit if record.kind == "text" else len(ids)
            if size > limit:
                too_long.append((record.id, size))
            for start in range(0, len(ids), size):
                piece = Example(ids[start : start + size], trained[start : start + size])
                yield {"row": row, **make_example(piece)}
        refuse_too_long(too_long, limit)

    def _encode(self, records: Sequence[Record]) -> Iterator[tuple[Record, Example]]:
        instruction = self.config.prompt.tuned_system_prompt
        for chunk in in_chunks(records):
            chats = [split_record(self.tokenizer, record, instruction) for record in chunk]
            yield from zip(chunk, encode_segments(self.tokenizer, chats), strict=True)

    def get_row_targets(self, row: dict[str, Any]) -> list[bool]:
        """Return which tokens have a label."""
        return [label != IGNORED for label in row["labels"]]

    def make_trainer(self, progress: "TrainingProgress", **common: Any) -> "Trainer":
        """Create TRL's `SFTTrainer`, which runs in micro-batches here."""
        from stages.train.examples import LeftPadding
        from stages.train.trainers.micro_batches import choose_micro_batch_tokens
        from stages.train.trainers.sft import AnswersTrainer

        tokens = self.config.train.micro_batch_tokens
        if tokens == AUTO:
            dimensions = get_model_dimensions(self.config.model, self.base)
            chosen = choose_micro_batch_tokens(
                self.config.train, dimensions, Path(common["args"].output_dir)
            )
            self.metadata["auto"]["micro_batch_tokens"] = chosen
            tokens = chosen["value"]
        return AnswersTrainer(
            progress=progress,
            micro_batch_tokens=tokens,
            data_collator=LeftPadding(self.tokenizer.pad_token_id),
            **common,
        )
