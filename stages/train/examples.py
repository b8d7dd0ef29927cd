"""Training examples: token ids with labels on the answers alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset

from stages.core.config import Config
from stages.core.errors import UserError
from stages.core.files import sha256_json
from stages.core.prompts import encode_segments, split_record
from stages.core.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that the cross-entropy of PyTorch passes over


def get_examples(config: Config, tokenizer: "PreTrainedTokenizerBase", records: Sequence[Record]) -> Dataset:
    """One row a record: `row` (its place), `input_ids`, `labels`, `length`. The prompt is the tuned arm's.

    Raises:
        UserError: records of a kind that this method does not learn from, or longer than the model's limit.
    """
    kinds = {record.kind for record in records} - set(config.train.kinds)
    if kinds:
        raise UserError(f"records of kind {', '.join(sorted(kinds))}: this method learns from {config.train.kinds}")
    chats = [split_record(tokenizer, record, config.prompt.short_instruction) for record in records]
    rows, too_long = [], []
    for row, (record, (ids, trained)) in enumerate(zip(records, encode_segments(tokenizer, chats), strict=True)):
        labels = [token if counts else IGNORED for token, counts in zip(ids, trained, strict=True)]
        rows.append({"row": row, "input_ids": ids, "labels": labels, "length": len(ids)})
        if len(ids) > config.model.max_length:
            too_long.append(f"{record.id} ({len(ids)} tokens)")
    if too_long:
        raise UserError(
            f"{len(too_long)} training row(s) are longer than model.max_length={config.model.max_length}: "
            f"{', '.join(too_long[:5])}. Run `dvc repro prepare`, which finds them and says what can be done."
        )
    return Dataset.from_list(rows)


def take_share(records: Sequence[Record], share: float, seed: int) -> list[Record]:
    """A share of the records in their order: drawn by their ids, so that a smaller share is a part of a larger one."""
    drawn = sorted(records, key=lambda record: sha256_json([seed, record.id]))[: max(1, round(share * len(records)))]
    kept = {record.id for record in drawn}
    return [record for record in records if record.id in kept]


class LeftPadding:
    """Collate examples so that all completions end in the last column: few columns then need logits."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad = pad_token_id

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of shape (rows, longest): `input_ids`, `labels`, `attention_mask`, `position_ids`; (rows,): `row`."""
        width = max(len(example["input_ids"]) for example in examples)

        def pad(key: str, value: int) -> torch.Tensor:
            return torch.tensor([[value] * (width - len(e[key])) + e[key] for e in examples])

        labels = pad("labels", IGNORED)
        mask = torch.tensor([[0] * (width - len(e["input_ids"])) + [1] * len(e["input_ids"]) for e in examples])
        return {
            "input_ids": pad("input_ids", self._pad),
            "labels": labels,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
            "row": torch.tensor([example["row"] for example in examples]),
        }
