"""Resolvers that make a stage depend on a file, a folder or code that only some options use.

DVC and the stages import them like `conf_digest`. DVC needs a path that exists, so each resolver has
a stand-in: a file that is no code and rarely changes. The stand-ins of one stage are different,
because DVC would otherwise list one path twice.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf


def adapter_folder(source: str | None) -> str:
    """Return the adapter from which training starts, if it is a folder."""
    return source if source and Path(source).is_dir() else "SECURITY.md"


def metric_code(best: str, rewards: DictConfig) -> str:
    """Return the code of the metrics if one selects the best step or rewards answers."""
    rewarded = any(reward.get("metric") for reward in rewards.values())
    return "stages/core/metrics" if best != "loss" or rewarded else "data/README.md"


def replay_file(source: str) -> str:
    """Return the file or folder of the replay rows, if the base model does not write them."""
    return ".dvcignore" if source == "self" else source


def reward_model_folder(rewards: DictConfig) -> str:
    """Return the folder of the first reward model, if there is one."""
    return next((reward.folder for reward in rewards.values() if reward.get("folder")), "NOTICE")


def rivals_folder(*, _root_: DictConfig) -> str:
    """Return the folder of the rivals, if there are any."""
    return "models/rivals" if _root_.rivals else "data/README.md"


def teacher_path(endpoint: DictConfig | None, model: DictConfig | None) -> str:
    """Return the code of the teacher's client, or the teacher's folder, if there is one."""
    if endpoint:
        return "stages/core/endpoint"
    if model and not OmegaConf.is_missing(model, "source") and Path(model.source).is_dir():
        return model.source
    return ".pre-commit-config.yaml"


def template_file(path: str | None) -> str:
    """Return the file of the chat template, if one is given."""
    return path or "LICENSE"


for resolver in (
    adapter_folder,
    metric_code,
    replay_file,
    reward_model_folder,
    rivals_folder,
    teacher_path,
    template_file,
):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
