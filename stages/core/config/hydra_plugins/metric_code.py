"""The resolver `${metric_code:a,b}` makes `train` depend on the code of the metrics it uses.

Its arguments are the metric that selects the best step and the rewards of method grpo.

DVC and the stages import it like `conf_digest`.
"""

from omegaconf import DictConfig, OmegaConf

METRICS_FOLDER = "stages/core/metrics"
NONE = "data/README.md"  # DVC needs some path; this file rarely changes and is no code


def metric_code(best: str, rewards: DictConfig) -> str:
    """Return the folder of the metrics if any is used, else a path that rarely changes."""
    rewarded = any(reward.get("metric") for reward in rewards.values())
    return METRICS_FOLDER if best != "loss" or rewarded else NONE


OmegaConf.register_new_resolver("metric_code", metric_code, replace=True)
