"""The resolver `${field_texts:}` explains each key of the configuration for `--help`.

DVC and the stages import it like `conf_digest`. It imports the schema only when the text is needed,
because only the stages have the schema on their import path.
"""

from omegaconf import OmegaConf


def field_texts() -> str:
    """List every key that has a field text, one per line, in the order of the schema."""
    from stages.core.config.schema import Config, list_keys

    return "\n".join(f"{key}: {text}" for key, text in dict(list_keys(Config)).items() if text)


OmegaConf.register_new_resolver("field_texts", field_texts, replace=True)
