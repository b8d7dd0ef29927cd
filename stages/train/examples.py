"""Training examples, checks of their lengths and their collation into batches."""

from collections.abc import Sequence
from typing import Any

import torch

from stages.core.data.prompts import Example
from stages.core.data.records import Record, RecordFile
from stages.core.errors import UserError
from stages.core.storage.files import sha256_json

IGNORED = -100  # the label that the cross-entropy of PyTorch ignores
SHOWN = 5  # rows that a message names


def refuse_too_long(rows: Sequence[tuple[str, int]], limit: int) -> None:
    """Refuse records that have more than `limit` tokens.

    Args:
        rows: The id and the number of tokens of each record that is too long.
        limit: The model's limit.

    Raises:
        UserError: There are such records. The message names the first ones.
    """
    if rows:
        shown = ", ".join(f"{name} ({length} tokens)" for name, length in rows[:SHOWN])
        raise UserError(
            f"{len(rows)} training row(s) are longer than model.max_length={limit}: {shown}. Run "
            "`dvc repro prepare`, which finds these rows and says what to do."
        )


def make_example(example: Example) -> dict[str, Any]:
    """Return `input_ids`, `labels`, `length` and `targets` for supervised fine-tuning.

    `targets` is the number of tokens that are learned.

    The first token is not learned, because nothing comes before it. With padding on its left it
    would be predicted from the padding.
    """
    labels = [token if counts else IGNORED for token, counts in zip(*example, strict=True)]
    return {
        "input_ids": example.ids,
        "labels": [IGNORED, *labels[1:]],
        "length": len(example.ids),
        "targets": sum(example.trained[1:]),
    }


def subsample(records: Sequence[Record], share: float, seed: int) -> Sequence[Record]:
    """Select a share of the records and keep their order.

    The selection depends on the ids, so that a smaller share is a subset of a larger one.
    """
    if share == 1:
        return records
    ids = [record.id for record in records]
    drawn = sorted(ids, key=lambda id: sha256_json([seed, id]))[: max(1, round(share * len(ids)))]
    kept = set(drawn)
    positions = [i for i, id in enumerate(ids) if id in kept]
    if isinstance(records, RecordFile):
        return records.select(positions)
    return [records[i] for i in positions]


class LeftPadding:
    """A collator that pads examples on the left.

    All completions then end in the last column, so that few columns need logits.
    """

    def __init__(self, pad_token_id: int) -> None:
        self._pad = pad_token_id

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return tensors of shape (rows, length of the longest row).

        They are `input_ids`, `labels`, `attention_mask`, `position_ids`, and `weight` and
        `of_base` if the examples have them.
        """
        width = max(len(example["input_ids"]) for example in examples)

        def pad(key: str, value: int) -> torch.Tensor:
            return torch.tensor([[value] * (width - len(e[key])) + e[key] for e in examples])

        mask = torch.tensor(
            [[0] * (width - len(e["input_ids"])) + [1] * len(e["input_ids"]) for e in examples]
        )
        of_rows: dict[str, torch.Tensor] = {
            key: torch.tensor([[example[key]] * width for example in examples])
            for key in ("weight", "of_base")
            if key in examples[0]
        }
        return {
            **of_rows,
            "input_ids": pad("input_ids", self._pad),
            "labels": pad("labels", IGNORED),
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
        }
