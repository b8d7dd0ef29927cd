"""How rows can share a batch of a model, read from the cache that the model makes."""

import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from stages.core.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CACHES = ("past_key_values", "cache_params")
"""The fields of transformers' outputs that hold what a model keeps of the tokens that it has read."""
PLACED = {"attention_mask", "position_ids"}
"""The arguments that tell a model which tokens are padding and where the others stand."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How rows can share a batch of one model."""

    room: float
    """The most positions of a cache that may have padding in any place. Up to it, rows can share a
    prefix, and rows can join and leave a batch. It is infinite for caches that keep every position,
    and 0 for caches of unknown kinds."""
    padded: bool
    """Whether rows of unequal length can share a batch if they are padded on the left."""
    columns: bool
    """Whether the model can be asked for the logits of chosen positions only."""


_KNOWN: "WeakKeyDictionary[torch.nn.Module, Batching]" = WeakKeyDictionary()


def get_batching(model: "PreTrainedModel") -> Batching:
    """Return how rows can share a batch of a model, after it has read one token.

    Only attention layers are known to be right with padding. State-space, convolution and other
    layers, and what transformers does not know, read rows of equal length only.

    Raises:
        UserError: The model keeps nothing of the tokens that it has read.
    """
    if model not in _KNOWN:
        _KNOWN[model] = _get_batching(model)
    return _KNOWN[model]


def unwrap(model: "PreTrainedModel") -> "PreTrainedModel":
    """Return the model itself, with its adapters, if the model is a wrapper of peft."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@torch.inference_mode()
def _get_batching(model: "PreTrainedModel") -> Batching:
    plain = unwrap(model)
    out = model(torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=True)
    if not any(name in out for name in CACHES):
        raise UserError(
            f"model.source: {type(plain).__name__} keeps no cache of the tokens that it has read, "
            "so it cannot write answers; choose a decoder-only language model"
        )
    known = set(inspect.signature(plain.forward).parameters)
    columns = "logits_to_keep" in known
    room = _get_room(out.get("past_key_values"), plain.config) if known >= PLACED else None
    return Batching(room if room and columns else 0, room is not None, columns)


def _get_room(cache: Any, config: Any) -> float | None:
    """Return the positions in which padding may be anywhere, or None for caches of other kinds.

    Inside its window a sliding layer sees all positions, as a plain one does.
    """
    from transformers.cache_utils import (
        DummyLayer,
        DynamicCache,
        DynamicLayer,
        DynamicSlidingWindowLayer,
    )

    if type(cache) is not DynamicCache:
        return None
    kinds = {type(layer) for layer in cache.layers}
    if not kinds <= {DummyLayer, DynamicLayer, DynamicSlidingWindowLayer}:
        return None
    windows = [
        layer.sliding_window
        for layer in cache.layers
        if isinstance(layer, DynamicSlidingWindowLayer)
    ]
    # The cache of GPT-Neo does not tell the window of its local layers.
    return min([*windows, getattr(config, "window_size", None) or math.inf]) - 1
