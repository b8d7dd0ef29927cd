"""The resolver `${reward_model_folder:rewards}` makes `train` depend on the model that rewards.

DVC and the stages import it like `conf_digest`.
"""

from omegaconf import DictConfig, OmegaConf

NONE = "NOTICE"  # as in `metric_code`, but another path, because DVC would list one path twice


def reward_model_folder(rewards: DictConfig) -> str:
    """Return the folder of the first reward model, else a path that rarely changes."""
    return next((reward.folder for reward in rewards.values() if reward.get("folder")), NONE)


OmegaConf.register_new_resolver("reward_model_folder", reward_model_folder, replace=True)
