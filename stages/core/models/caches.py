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

    The models of transformers mask padding on the left in every kind of layer. Code from a model's
    files and caches that only one model uses are not trusted to do so.

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
    cache = out.get("past_key_values") or out.get("cache_params")  # state-space models name it so
    if cache is None:
        raise UserError(
            f"model.source: {type(plain).__name__} keeps no cache of the tokens that it has read, "
            "so it cannot write answers; choose a decoder-only language model"
        )
    takes = set(inspect.signature(plain.forward).parameters)
    columns = "logits_to_keep" in takes
    kinds = {type(cache), *map(type, getattr(cache, "layers", ()))}
    padded = (
        "attention_mask" in takes
        and _is_of_transformers(plain)
        and all(kind.__module__ == "transformers.cache_utils" for kind in kinds)
    )
    placed = padded and columns and "position_ids" in takes
    return Batching(_get_room(cache, kinds, plain.config) if placed else 0, padded, columns)


def _is_of_transformers(model: "PreTrainedModel") -> bool:
    """Return whether the model's code is a part of transformers instead of the model's files.

    Sharding derives a class in torch from the model's class.
    """
    names = [kind.__module__ for kind in type(model).__mro__]
    own = next(name for name in names if not name.startswith("torch."))
    return own.startswith("transformers.models.")


def _get_room(cache: Any, kinds: set[type], config: Any) -> float:
    """Return the positions of a cache in which padding may be anywhere.

    Within its window a sliding layer sees all positions, as a plain one does.
    """
    from transformers.cache_utils import (
        DummyLayer,
        DynamicCache,
        DynamicLayer,
        DynamicSlidingWindowLayer,
    )

    if not kinds <= {DynamicCache, DummyLayer, DynamicLayer, DynamicSlidingWindowLayer}:
        return 0
    windows = [
        layer.sliding_window
        for layer in cache.layers
        if isinstance(layer, DynamicSlidingWindowLayer)
    ]
    # The cache of GPT-Neo does not tell the window of its local layers.
    return min([*windows, getattr(config, "window_size", None) or math.inf]) - 1
