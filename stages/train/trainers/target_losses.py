"""The losses of target tokens, without the logits of the other positions."""

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from stages.train.examples import IGNORED


def sum_at_targets(
    model: Any, read: dict[str, Any], weights: torch.Tensor | None
) -> tuple[torch.Tensor, Any]:
    """Sum the losses of the targets from the logits of the positions before them.

    The second value is the loss that balances experts, or None.
    """
    targets = read.pop("labels")[:, 1:]
    columns = (targets != IGNORED).any(0).nonzero().squeeze(-1)
    found = model(**read, use_cache=False, logits_to_keep=columns)
    logits = found.logits
    balance = getattr(found, "aux_loss", None)
    kept = targets[:, columns]
    trained = kept != IGNORED
    if weights is None:
        return cross_entropy(logits[trained].float(), kept[trained], reduction="sum"), balance
    losses = cross_entropy(logits[trained].float(), kept[trained], reduction="none")
    return (losses * weights[:, 1:][:, columns][trained]).sum(), balance


def sum_in_chunks(
    model: Any, read: dict[str, Any], weights: torch.Tensor | None
) -> tuple[torch.Tensor, Any]:
    """Sum the losses of the targets without ever holding all their logits, by TRL's fused head.

    Its log-likelihoods are 0 where there is no target. The second value is the loss that balances
    experts, or None.
    """
    found = model(**read, use_cache=False, fused_lm_head=True)
    losses = -found.log_probs
    return (losses if weights is None else losses * weights[:, 1:]).sum(), found.aux_loss


def name_experts(config: Any) -> None:
    """Let TRL find the number of experts of a model that has another name for it.

    TRL's fused head reads `num_experts`. Granite has `num_local_experts` only.

    Args:
        config: The configuration of the language model, whose class is changed.
    """
    if hasattr(config, "num_local_experts") and not hasattr(config, "num_experts"):
        kind = type(config)
        kind.attribute_map = {**kind.attribute_map, "num_experts": "num_local_experts"}
