"""The resolver `${rivals_dependency:}` makes the stages after training depend on the rivals.

DVC and the stages import it like `conf_digest`. Without rivals their folder does not exist, and DVC
rejects a dependency that does not exist.
"""

from omegaconf import DictConfig, OmegaConf

RIVALS = "models/rivals"
NONE = "data/README.md"  # DVC needs some path; this file rarely changes and is no code


def rivals_dependency(*, _root_: DictConfig) -> str:
    """Return the folder of the rivals if there are any, else a path that rarely changes."""
    return RIVALS if _root_.rivals else NONE


OmegaConf.register_new_resolver("rivals_dependency", rivals_dependency, replace=True)
