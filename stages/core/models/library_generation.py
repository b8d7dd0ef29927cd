"""Generation by `generate` of transformers, for models whose caches are not plain."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from stages.core.models.caches import unwrap

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from stages.core.models.generation import Choosing


class Chooser(LogitsProcessor):
    """Leave each row that goes on the one token that a function chooses."""

    def __init__(
        self,
        choose: "Choosing",
        rows: Sequence[int],
        ends: set[int],
    ) -> None:
        """Take the function, the index that it knows each row by, and the end tokens."""
        self._choose = choose
        self._rows = rows
        self._ends = ends
        self._going = list(range(len(rows)))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores of the given shape (rows, vocabulary), with 0 for each chosen token."""
        tokens = self._choose(scores[self._going], [self._rows[i] for i in self._going])
        chosen = torch.full_like(scores, -torch.inf)
        chosen[self._going, tokens] = 0.0
        ended = set(range(len(scores))) - set(self._going)
        chosen[sorted(ended), 0] = 0.0  # any token, because transformers pads rows that have ended
        self._going = [
            i
            for i, token in zip(self._going, tokens.tolist(), strict=True)
            if token not in self._ends
        ]
        return chosen


def complete(
    model: "PreTrainedModel",
    prompts: Sequence[list[int]],
    choose: "Choosing",
    *,
    padded: bool,
    max_new_tokens: int,
    ends: set[int],
    pad: int,
) -> list[list[int]]:
    """Complete the prompts of one batch, each with an end token or `max_new_tokens` tokens.

    Args:
        model: A causal language model in evaluation mode.
        prompts: Token ids, the longest prompt first.
        choose: The function that chooses the next tokens of rows, which it knows by their indices
            in `prompts`.
        padded: Whether prompts of unequal length are padded on the left. Otherwise only prompts of
            equal length are computed together.
        max_new_tokens: The number of tokens after which an answer is cut.
        ends: The end tokens.
        pad: The token for padding.
    """
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(ends) or None,
        pad_token_id=pad,
    )
    rows = range(len(prompts))
    groups = (
        [list(rows)] if padded else [list(g) for _, g in groupby(rows, lambda i: len(prompts[i]))]
    )
    completions = []
    for group in groups:
        width = len(prompts[group[0]])
        gaps = [width - len(prompts[i]) for i in group]
        ids = [[pad] * gap + prompts[i] for i, gap in zip(group, gaps, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
        with _without_defaults(unwrap(model)) as plain:
            found = plain.generate(
                torch.tensor(ids, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                generation_config=settings,
                logits_processor=LogitsProcessorList([Chooser(choose, group, ends)]),
            )
        completions += [_cut(row, ends) for row in found[:, width:].tolist()]
    return completions


@contextmanager
def _without_defaults(model: "PreTrainedModel") -> Iterator["PreTrainedModel"]:
    """Hide the model's generation settings, such as a repetition penalty.

    Transformers adds them to those that it is given, but all models answer greedily here.
    """
    kept = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield model
    finally:
        model.generation_config = kept


def _cut(ids: list[int], ends: set[int]) -> list[int]:
    """Cut what follows the first end token, which is padding."""
    return ids[: next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))]
