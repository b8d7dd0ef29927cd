"""The settings of a model that a trainer changes for training alone."""

from collections.abc import Callable
from typing import Any

SETTINGS = ("use_cache", "output_router_logits")


def keep_settings(model: Any) -> Callable[[], None]:
    """Return a function that restores the settings that the model has now.

    transformers and TRL set them in the configuration, which is saved with the model. With the first
    one, a pass keeps nothing for the next one. With the second one, a mixture of experts fails when
    it writes the second token of an answer.

    Args:
        model: The model before the trainer is made.
    """
    configs = {id(one): one for one in (model.config, model.config.get_text_config())}.values()
    before = [
        (config, {k: v for k, v in vars(config).items() if k in SETTINGS}) for config in configs
    ]

    def restore() -> None:
        for config, settings in before:
            for name in SETTINGS:
                if name in settings:
                    setattr(config, name, settings[name])
                elif name in vars(config):
                    delattr(config, name)

    return restore
