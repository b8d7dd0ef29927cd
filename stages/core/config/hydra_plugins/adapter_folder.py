"""The resolver `${adapter_folder:source}` makes `train` depend on the adapter that it starts from.

DVC and the stages import it like `conf_digest`.
"""

from pathlib import Path

from omegaconf import OmegaConf

NONE = "LICENSE"  # as in `metric_code`, but another path, because DVC would list one path twice


def adapter_folder(source: str | None) -> str:
    """Return the adapter if it is a folder, else a path that rarely changes."""
    return source if source and Path(source).is_dir() else NONE


OmegaConf.register_new_resolver("adapter_folder", adapter_folder, replace=True)
