"""The losses of target tokens, without the logits of the other positions.

A target of a row that the base model wrote may have another loss than its negative log-likelihood:
how far the model's probabilities are from those of the base model (`get_divergence`).
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy, kl_div

from stages.train.examples import IGNORED


def sum_at_targets(
    model: Any,
    read: dict[str, Any],
    weights: torch.Tensor | None,
    of_base: torch.Tensor | None = None,
    base: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Any]:
    """Sum the losses of the targets from the logits of the positions before them.

    Args:
        model: The model.
        read: Its inputs, with `labels`. All of them have the shape (rows, tokens).
        weights: The weight of each token's loss.
        of_base: Which tokens are of rows that the base model wrote.
        base: The base model's logits of the targets of these rows, of shape (targets,
            vocabulary). The losses of these targets are then the divergence from it.

    Returns:
        The sum, and the loss that balances experts, or None.
    """
    targets = read.pop("labels")[:, 1:]
    trained = targets != IGNORED
    logits, balance = get_target_logits(model, read, trained)
    if weights is None:
        return cross_entropy(logits, targets[trained], reduction="sum"), balance
    losses = cross_entropy(logits, targets[trained], reduction="none")
    if of_base is not None and base is not None:
        here = of_base[:, 1:][trained]
        losses = losses.masked_scatter(here, get_divergence(logits[here], base))
    return (losses * weights[:, 1:][trained]).sum(), balance


def get_target_logits(
    model: Any, read: dict[str, Any], trained: torch.Tensor
) -> tuple[torch.Tensor, Any]:
    """Return the logits of the targets in float32, and the loss that balances experts, or None.

    Args:
        model: The model.
        read: Its inputs without `labels`.
        trained: Which tokens after the first are targets, of shape (rows, tokens - 1).
    """
    columns = trained.any(0).nonzero().squeeze(-1)
    found = model(**read, use_cache=False, logits_to_keep=columns)
    return found.logits[trained[:, columns]].float(), getattr(found, "aux_loss", None)


def get_divergence(logits: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Compute the Kullback-Leibler divergence of the base model's probabilities from the model's.

    It is the loss of distillation with the base model as the teacher (Hinton et al., 2015), with
    which a model keeps what it knew (Li and Hoiem, "Learning without Forgetting", 2016).

    Args:
        logits: The logits of the model, of shape (targets, vocabulary).
        base: Those of the base model.

    Returns:
        The divergence at each target, in nats.
    """
    return kl_div(
        logits.log_softmax(-1), base.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)


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
