"""The resolver `${template_file:path}` makes the stages depend on the file of the chat template.

DVC and the stages import it like `conf_digest`.
"""

from omegaconf import OmegaConf

NONE = "LICENSE"  # as in `metric_code`, but another path, because DVC would list one path twice


def template_file(path: str | None) -> str:
    """Return the file that `model.chat_template` names, else a path that rarely changes."""
    return path or NONE


OmegaConf.register_new_resolver("template_file", template_file, replace=True)
