"""Log-likelihoods of given texts under a model."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from stages.core.models.caches import get_batching
from stages.core.models.generation import Prompt, batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Padded tokens in one forward pass. Logits for a vocabulary of 50,000 tokens stay at 0.4 GB. 4,096
# tokens were slower.
PASS_TOKENS = 1024


@torch.inference_mode()
def get_nats(
    model: "PreTrainedModel", texts: Sequence[tuple[Prompt, Prompt]], title: str
) -> list[float]:
    """Compute the negative log-likelihood of the second part of each text after the first part.

    The values are in nats and summed over the tokens of the second part.

    Args:
        model: A causal language model in evaluation mode.
        texts: Pairs of token ids, the given and the predicted part. Neither may be empty.
        title: The title of the progress bar.
    """
    from tqdm import tqdm

    nats = [0.0] * len(texts)
    with tqdm(total=len(texts), desc=title, unit="row", mininterval=1) as bar:
        for batch in _divide(model, [len(given) + len(told) for given, told in texts]):
            for i, value in zip(batch, _read(model, [texts[i] for i in batch]), strict=True):
                nats[i] = value
            bar.update(len(batch))
    return nats


def _divide(model: "PreTrainedModel", lengths: Sequence[int]) -> Iterator[list[int]]:
    """Divide texts into batches, of equal length if the model cannot read padding."""
    for batch in batches(lengths, PASS_TOKENS):
        if get_batching(model).padded:
            yield batch
        else:
            for _, group in groupby(batch, lambda i: lengths[i]):
                yield list(group)


def _read(model: "PreTrainedModel", texts: Sequence[tuple[Prompt, Prompt]]) -> list[float]:
    """Compute the negative log-likelihoods of one batch.

    The texts are padded on the left. All predicted parts then end in the last column, and few
    columns need logits.
    """
    width = max(len(a) + len(b) for a, b in texts)
    longest = max(len(b) for _, b in texts)
    ids = torch.tensor(
        [[0] * (width - len(a) - len(b)) + a + b for a, b in texts], device=model.device
    )
    mask = torch.tensor(
        [[0] * (width - len(a) - len(b)) + [1] * (len(a) + len(b)) for a, b in texts]
    ).to(model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    # Each column predicts the column to its right.
    columns = torch.arange(width - longest - 1, width - 1, device=model.device)
    batching = get_batching(model)
    others: dict[str, torch.Tensor] = {"logits_to_keep": columns} if batching.columns else {}
    if batching.padded:
        others["position_ids"] = positions
    out = model(ids, attention_mask=mask, use_cache=False, **others)
    logits = out.logits if batching.columns else out.logits[:, columns]
    losses = cross_entropy(logits.transpose(1, 2).float(), ids[:, -longest:], reduction="none")
    return [
        float(row[longest - len(told) :].sum())
        for row, (_, told) in zip(losses, texts, strict=True)
    ]
