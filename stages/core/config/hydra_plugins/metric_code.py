"""The resolver `${metric_code:a,b,c}` makes `train` depend on the code that only some options use.

Its arguments are the metric that selects the best step, the rewards of method grpo and the teacher.

DVC and the stages import it like `conf_digest`.
"""

from omegaconf import DictConfig, OmegaConf

METRICS_FOLDER = "stages/core/metrics"
ENDPOINT_FOLDER = "stages/core/endpoint"
BOTH = "stages/core"
NONE = "data/README.md"  # DVC needs some path; this file rarely changes and is no code


def metric_code(best: str, rewards: DictConfig, teacher: DictConfig | None = None) -> str:
    """Return the folder of the code that is used, or a path that rarely changes if none is."""
    rewarded = any(reward.get("metric") for reward in rewards.values())
    scores = best != "loss" or rewarded
    if teacher is not None:
        return BOTH if scores else ENDPOINT_FOLDER
    return METRICS_FOLDER if scores else NONE


OmegaConf.register_new_resolver("metric_code", metric_code, replace=True)
