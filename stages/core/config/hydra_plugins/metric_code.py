"""The resolver `${metric_code:a,b}` makes `train` depend on the code of the metrics it uses.

DVC and the stages import it like `conf_digest`.
"""

from omegaconf import OmegaConf

METRICS_FOLDER = "stages/core/metrics"
NONE = "data/README.md"  # DVC needs some path; this file rarely changes and is no code


def metric_code(*names: str | None) -> str:
    """Return the folder of the metrics if any name is a metric, else a path that rarely changes."""
    return METRICS_FOLDER if set(names) - {None, "loss"} else NONE


OmegaConf.register_new_resolver("metric_code", metric_code, replace=True)
