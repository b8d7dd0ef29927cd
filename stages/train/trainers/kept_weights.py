"""Keep the weights of a model while TRL generates with continuous batching.

TRL casts the whole model to bfloat16 before, and leaves it so. The trained weights would lose the
updates that bfloat16 cannot hold, and the rotation its frequencies: rounded to 8 bits they are off
by a whole turn after some thousand tokens. It also leaves the model in training mode, in an
evaluation too, whose loss it then cannot compute.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def kept_weights(model: Any) -> Iterator[None]:
    """Let `model.to` cast the weights alone, and restore them and the mode at the end of the block.

    While the block runs, the memory holds both.
    """
    kept = [(parameter, parameter.data) for parameter in model.parameters()]

    def cast(dtype: torch.dtype) -> Any:
        for parameter, data in kept:
            if data.is_floating_point():
                parameter.data = data.to(dtype)
        return model

    training = model.training
    model.to = cast
    try:
        yield
    finally:
        del model.to
        model.train(training)
        for parameter, data in kept:
            parameter.data = data
