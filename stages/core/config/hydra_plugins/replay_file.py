"""The resolver `${replay_file:source}` makes `train` depend on the file of replay rows.

DVC and the stages import it like `conf_digest`.
"""

from omegaconf import OmegaConf

NONE = ".dvcignore"  # as in `metric_code`, but another path, because DVC would list one path twice


def replay_file(source: str) -> str:
    """Return the file or folder that `train.replay.source` names, else a path that rarely changes."""
    return NONE if source == "self" else source


OmegaConf.register_new_resolver("replay_file", replay_file, replace=True)
