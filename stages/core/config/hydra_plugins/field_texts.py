"""The resolver `${field_texts:}`: what each key of the configuration means, for `--help`.

Imported as `conf_digest` is. The schema is imported when the text is asked for: only the stages have it on their path.
"""

from omegaconf import OmegaConf


def field_texts() -> str:
    """List every key that has a text, one a line, in the order of the schema."""
    from stages.core.config.schema import Config, list_texts

    return "\n".join(f"{key}: {text}" for key, text in dict(list_texts(Config)).items())


OmegaConf.register_new_resolver("field_texts", field_texts, replace=True)
