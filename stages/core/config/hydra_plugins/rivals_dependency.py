"""The resolver `${rivals_dependency:}`: what the stages after training depend on where there are rivals.

Imported as `conf_digest` is. DVC takes a folder that is not there for a mistake, and there is none without rivals.
"""

from omegaconf import DictConfig, OmegaConf

RIVALS = "models/rivals"
NONE = "data/README.md"  # DVC wants some path: this one hardly ever changes, and is no source file


def rivals_dependency(*, _root_: DictConfig) -> str:
    """The folder of the rivals where there are any."""
    return RIVALS if _root_.rivals else NONE


OmegaConf.register_new_resolver("rivals_dependency", rivals_dependency, replace=True)
