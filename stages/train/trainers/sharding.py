"""Settings of training that is sharded over GPUs with FSDP, which accelerate leaves otherwise."""

from dataclasses import replace
from typing import Any

import torch

# Without this, each process keeps the whole gradients of all layers until the last batch of a step,
# which may not fit where the sharded ones do.
SYNC_EACH_BATCH = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}


def reduce_in_float32(accelerator: Any) -> None:
    """Add the gradients of all processes in float32 instead of the precision of the products.

    In bfloat16 a sum over many processes loses most of what small gradients contribute. Call this
    before the model is sharded. Without FSDP, or without mixed precision, it does nothing.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin and plugin.mixed_precision_policy:
        policy = replace(plugin.mixed_precision_policy, reduce_dtype=torch.float32)
        plugin.mixed_precision_policy = policy
