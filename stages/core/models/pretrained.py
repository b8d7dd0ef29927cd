"""Load the weights of a model, of which none may be missing without a word.

Torch and transformers are imported only when they are needed.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
CAUSAL = "AutoModelForCausalLM"


def load_pretrained(
    base: ModelFiles, dtype: "torch.dtype", kind: str, **others: Any
) -> "PreTrainedModel":
    """Load a model with `from_pretrained`, and refuse one that its files do not fill.

    Args:
        base: The files of the model.
        dtype: The type of the weights.
        kind: The auto class of transformers that loads the model.
        others: Further arguments for `from_pretrained` of this class.

    Raises:
        UserError: The weights are damaged, are no safetensors or do not fit the configuration.
    """
    import transformers
    from safetensors import SafetensorError

    load = getattr(transformers, kind).from_pretrained
    # Wrong shapes are then reported below, in a message that names them.
    others |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with _silence():
            model, info = load(
                base.path, dtype=dtype, use_safetensors=True, **base.arguments, **others
            )
    except SafetensorError as error:
        raise UserError(
            f"{base.path}: its safetensors are damaged: {error}. Delete and make them again."
        ) from None
    except OSError as error:
        if error.errno is not None:  # an error of the operating system
            raise
        raise UserError(
            f"{base.path}: {error} Only safetensors are loaded, because a pickle can execute code."
        ) from None
    _check_names(base.path, model, info, whole=kind == CAUSAL)
    return model


@contextmanager
def _silence() -> Iterator[None]:
    """Make transformers log only errors in this block, and no table of all weights."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # loading takes only a second
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _check_names(path: str, model: "PreTrainedModel", info: dict[str, Any], whole: bool) -> None:
    """Refuse a model that transformers has completed with random numbers.

    Args:
        path: The model, for the message.
        model: The loaded model.
        info: The names of weights that transformers returns with `output_loading_info`.
        whole: Whether the files must have every weight, and no others. Otherwise the head and the
            pooler may be new.

    Raises:
        UserError: Weights are missing or have another shape than the configuration says.
    """
    wrong = {
        name: f"has the shape {list(found)} instead of {list(expected)}"
        for name, found, expected in info["mismatched_keys"]
    } | dict.fromkeys(info["missing_keys"], "is missing")
    if not whole:
        body = f"{model.base_model_prefix}."
        wrong = {
            name: what
            for name, what in wrong.items()
            if name.startswith(body) and ".pooler." not in name
        }
    if wrong:
        first = min(wrong)
        raise UserError(
            f"{path}: weights that do not fit config.json: {len(wrong)}, such as {first}, which "
            f"{wrong[first]}. Random numbers would stand in their place. Take all files from the same "
            "download, or choose another model."
        )
    unused = info["unexpected_keys"]
    if whole and unused:
        log.warning(
            "%s: weights that are not in the model of config.json, and are not used: %d, such as %s.",
            path,
            len(unused),
            min(unused),
        )
