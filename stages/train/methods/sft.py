"""Supervised fine-tuning: the answers of chats, or plain text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stages.core.data.prompts import Example, encode_segments, split_record
from stages.core.data.records import Record
from stages.train.examples import check_lengths, make_example
from stages.train.methods.base import Method

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

    from stages.train.monitoring.training_progress import Journal


class Answers(Method):
    """Loss on the answers of weight 1 and on the ends of their turns; of plain text, on every token."""

    @property
    def arguments(self) -> type:
        """TRL's."""
        from trl import SFTConfig

        return SFTConfig

    @property
    def ours(self) -> dict[str, Any]:
        """The examples are tokenized here, so that prompts are those of generation."""
        return {"dataset_kwargs": {"skip_prepare_dataset": True}}

    def get_examples(self, records: Sequence[Record]) -> "Dataset":
        """`input_ids` and `labels`. Text is cut into pieces of `model.max_length` tokens."""
        from datasets import Dataset

        self.check_kinds(records)
        limit = self.config.model.max_length
        instruction = self.config.prompt.short_instruction
        chats = [split_record(self.tokenizer, record, instruction) for record in records]
        rows: list[dict[str, Any]] = []
        for row, (record, (ids, trained)) in enumerate(
            zip(records, encode_segments(self.tokenizer, chats), strict=True)
        ):
            size = limit if record.kind == "text" else len(ids)
            for start in range(0, len(ids), size):
                piece = Example(ids[start : start + size], trained[start : start + size])
                rows.append({"row": row, **make_example(piece)})
        check_lengths([records[row["row"]] for row in rows], [row["length"] for row in rows], limit)
        return Dataset.from_list(rows)

    def make_trainer(self, journal: "Journal", **common: Any) -> "Trainer":
        """TRL's `SFTTrainer` in micro-batches."""
        from stages.train.examples import LeftPadding
        from stages.train.trainers.sft import AnswersTrainer

        return AnswersTrainer(
            journal=journal,
            micro_batch_tokens=self.config.train.micro_batch_tokens,
            data_collator=LeftPadding(self.tokenizer.pad_token_id),
            **common,
        )
