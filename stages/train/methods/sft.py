"""Supervised fine-tuning on the answers of chats or on plain text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.data.prompts import Example, encode_segments, split_record
from stages.core.data.records import Record
from stages.core.planning.auto import AUTO
from stages.core.planning.model_dimensions import get_model_dimensions
from stages.train.examples import check_lengths, make_example
from stages.train.methods.base import Method

if TYPE_CHECKING:
    from datasets import Dataset
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

    def get_examples(self, records: Sequence[Record]) -> "Dataset":
        """Create examples with `input_ids` and `labels`.

        Plain text is cut into pieces of `model.max_length` tokens.

        Raises:
            UserError: A record is of another kind, or a chat is longer than the limit.
        """
        from datasets import Dataset

        self.check_kinds(records)
        limit = self.config.model.max_length
        instruction = self.config.prompt.tuned_system_prompt
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
