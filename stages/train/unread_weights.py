"""Leave out the weights that text never reaches, in models that read images or sound too.

Rows are text, so these weights would get no gradient. Several processes (train/launcher=ddp) would
wait for it, and an adapter on them would stay what it was.
"""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import LoraConfig


def leave_out_unread(model: Any, adapter: "LoraConfig | None") -> None:
    """Freeze the parts of a model that text never reaches, and put no adapters on them.

    Args:
        model: The model without an adapter.
        adapter: Its configuration, whose `exclude_modules` is set if `train.adapter` does not.
    """
    unread = find_unread(model)
    for name in unread:
        model.get_submodule(name).requires_grad_(False)
    if unread and adapter and not adapter.exclude_modules:
        adapter.exclude_modules = f"({'|'.join(map(re.escape, unread))})\\..*"


def find_unread(model: Any) -> list[str]:
    """Return the names of the parts beside the language model, such as an image encoder."""
    if model.config.get_text_config() is model.config:
        return []
    decoder = model.get_decoder()
    path = next(name for name, module in model.named_modules() if module is decoder)
    parent = path.rpartition(".")[0]
    read = {decoder, model.get_output_embeddings()}
    return [
        f"{parent}.{name}".lstrip(".")
        for name, part in model.get_submodule(parent).named_children()
        if part not in read and any(True for _ in part.parameters())
    ]
