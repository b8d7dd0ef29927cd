"""The names of weights in a checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from transformers import PreTrainedModel


@contextmanager
def keep_names(model: Any) -> Iterator[None]:
    """Let `save_pretrained` write the weights by their names in memory.

    transformers writes some weights, such as those of experts, by the names that published files
    have, and the trainer reads a checkpoint by the names in memory. So it would resume without the
    weights that have other names in a file, and without a word.

    Args:
        model: The model. An adapter has the same names in both places, and is left as it is.
    """
    if not isinstance(model, PreTrainedModel):
        yield
        return
    plain = model.save_pretrained
    model.save_pretrained = partial(plain, save_original_format=False)
    try:
        yield
    finally:
        del model.save_pretrained
