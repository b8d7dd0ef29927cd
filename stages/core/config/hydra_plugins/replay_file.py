"""The resolver `${replay_file:source}`: the file of replay rows on which `train` depends, where there is one.

Imported as `conf_digest` is.
"""

from omegaconf import OmegaConf

NONE = ".dvcignore"  # as in `metric_code`; DVC would write the same path twice


def replay_file(source: str) -> str:
    """The file that `train.replay.source` names, else a path that stays as it is."""
    return NONE if source == "self" else source


OmegaConf.register_new_resolver("replay_file", replay_file, replace=True)
