"""The ways to train, one module a family; `get_method` imports the one that is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.core.config.schema import Config
    from stages.train.methods.base import Method

CLASSES = {
    "sft": ("sft", "Answers"),
    "dpo": ("preferences", "Dpo"),
    "orpo": ("preferences", "Orpo"),
    "kto": ("preferences", "Kto"),
    "reward": ("preferences", "Reward"),
    "grpo": ("grpo", "Grpo"),
    "classify": ("classification", "Classify"),
    "tag": ("classification", "Tag"),
}


def get_method(config: "Config", seed: int | None = None) -> "Method":
    """The method of `train.method`, with its tokenizer loaded; `seed` is that of training, null the global one."""
    module, name = CLASSES[config.train.method]
    return getattr(import_module(f"{__name__}.{module}"), name)(
        config, config.seed if seed is None else seed
    )
