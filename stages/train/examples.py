"""Training examples: their rows, their lengths, and batches of them."""

from collections.abc import Sequence
from typing import Any

import torch

from stages.core.data.prompts import Example
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.storage.files import sha256_json

IGNORED = -100  # the label that the cross-entropy of PyTorch passes over
SHOWN = 5  # rows in a message


def check_lengths(records: Sequence[Record], lengths: Sequence[int], limit: int) -> None:
    """Raise a `UserError` that names the records of more than `limit` tokens."""
    too_long = [
        f"{r.id} ({length} tokens)"
        for r, length in zip(records, lengths, strict=True)
        if length > limit
    ]
    if too_long:
        raise UserError(
            f"{len(too_long)} training row(s) are longer than model.max_length={limit}: "
            f"{', '.join(too_long[:SHOWN])}. Run `dvc repro prepare`, which finds them and says what can be done."
        )


def make_example(example: Example) -> dict[str, Any]:
    """`input_ids`, `labels` and `length`, as the trainer of answers takes them.

    Nothing comes before the first token, so that it is not learned: with padding on its left it would follow that.
    """
    labels = [token if counts else IGNORED for token, counts in zip(*example, strict=True)]
    return {"input_ids": example.ids, "labels": [IGNORED, *labels[1:]], "length": len(example.ids)}


def take_share(records: Sequence[Record], share: float, seed: int) -> list[Record]:
    """A share of the records in their order: drawn by their ids, so that a smaller share is a part of a larger one."""
    drawn = sorted(records, key=lambda record: sha256_json([seed, record.id]))[
        : max(1, round(share * len(records)))
    ]
    kept = {record.id for record in drawn}
    return [record for record in records if record.id in kept]


class LeftPadding:
    """Collate examples so that all completions end in the last column: few columns then need logits."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad = pad_token_id

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of shape (rows, longest): `input_ids`, `labels`, `attention_mask`, `position_ids`, and `weight` where
        the examples have one."""
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
