"""The resolver `${metric_code:a,b}`: what `train` depends on beside its own code when it goes by metrics.

Imported as `conf_digest` is.
"""

from omegaconf import OmegaConf

METRICS = "stages/core/metrics"
NONE = "data/README.md"  # DVC wants some path: this one hardly ever changes, and is no source file


def metric_code(*names: str | None) -> str:
    """The folder of the metrics where one of the names is that of a metric, else a path that stays as it is."""
    return METRICS if set(names) - {None, "loss"} else NONE


OmegaConf.register_new_resolver("metric_code", metric_code, replace=True)
