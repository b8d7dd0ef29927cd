"""Training examples, checks of their lengths and their collation into batches."""

from collections.abc import Sequence
from typing import Any

import torch

from stages.core.data.prompts import Example
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.storage.files import sha256_json

IGNORED = -100  # the label that the cross-entropy of PyTorch ignores
SHOWN = 5  # rows that a message names


def check_lengths(records: Sequence[Record], lengths: Sequence[int], limit: int) -> None:
    """Check that no record has more than `limit` tokens.

    Raises:
        UserError: Some records are longer. The message names the first ones.
    """
    too_long = [
        f"{r.id} ({length} tokens)"
        for r, length in zip(records, lengths, strict=True)
        if length > limit
    ]
    if too_long:
        raise UserError(
            f"{len(too_long)} training row(s) are longer than model.max_length={limit}: "
            f"{', '.join(too_long[:SHOWN])}. Run `dvc repro prepare`, which finds these rows and "
            "says what to do."
        )


def make_example(example: Example) -> dict[str, Any]:
    """Return `input_ids`, `labels` and `length` for supervised fine-tuning.

    The first token is not learned, because nothing comes before it. With padding on its left it
    would be predicted from the padding.
    """
    labels = [token if counts else IGNORED for token, counts in zip(*example, strict=True)]
    return {"input_ids": example.ids, "labels": [IGNORED, *labels[1:]], "length": len(example.ids)}


def subsample(records: Sequence[Record], share: float, seed: int) -> list[Record]:
    """Select a share of the records and keep their order.

    The selection depends on the ids, so that a smaller share is a subset of a larger one.
    """
    drawn = sorted(records, key=lambda record: sha256_json([seed, record.id]))[
        : max(1, round(share * len(records)))
    ]
    kept = {record.id for record in drawn}
    return [record for record in records if record.id in kept]


class LeftPadding:
    """A collator that pads examples on the left.

    All completions then end in the last column, so that few columns need logits.
    """

    def __init__(self, pad_token_id: int) -> None:
        self._pad = pad_token_id

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return tensors of shape (rows, length of the longest row).

        They are `input_ids`, `labels`, `attention_mask`, `position_ids` and, if the examples have
        weights, `weight`.
        """
        width = max(len(example["input_ids"]) for example in examples)

        def pad(key: str, value: int) -> torch.Tensor:
            return torch.tensor([[value] * (width - len(e[key])) + e[key] for e in examples])

        mask = torch.tensor(
            [[0] * (width - len(e["input_ids"])) + [1] * len(e["input_ids"]) for e in examples]
        )
        weights = [[e["weight"]] * width for e in examples if "weight" in e]
        return {
            **({"weight": torch.tensor(weights)} if weights else {}),
            "input_ids": pad("input_ids", self._pad),
            "labels": pad("labels", IGNORED),
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
        }
