"""The resolver `${registry_name:TEXT}` makes a name that MLflow's registry accepts.

DVC and the stages import it like `conf_digest`.
"""

import re

from omegaconf import OmegaConf


def registry_name(text: str) -> str:
    """Replace what is no letter, digit, `_` or `-` by `-`, so that `owner/name` is `owner-name`."""
    return re.sub(r"[^\w-]+", "-", text).strip("-")


OmegaConf.register_new_resolver("registry_name", registry_name, replace=True)
