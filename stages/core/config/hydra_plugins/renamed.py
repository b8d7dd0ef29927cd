"""The former names of configuration groups, options and keys.

Using a former name stops the command with a message that gives the new name. DVC discovers
this plugin in its own process, for `dvc exp run -S`. The stages register it themselves
(`stages/core/config/schema.py`). It imports nothing from Tuneproof, because DVC's process cannot.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

GROUPS = {
    "encoder": "train/encoder",
    "launcher": "train/launcher",
    "remote": "prompt/remote",
    "retriever": "prompt/retriever",
    "search": "prompt/search",
}
OPTIONS = {
    "energy=unmeasured": "energy=none",
    "rivals=encoder-classify": "rivals=encoder-classifier",
    "rivals=encoder-tag": "rivals=encoder-tagger",
    "train=classify": "train=sequence-classification",
    "train=reward": "train=reward-model",
    "train=tag": "train=token-classification",
}
KEYS = {
    "checks.leak_limit": "checks.max_leak_fraction",
    "checks.max_target_share": "checks.max_target_fraction",
    "checks.wrong_kind": "checks.wrong_record_type",
    "data.columns": "data.column_mapping",
    "data.group": "data.group_column",
    "data.keep": "data.metadata_columns",
    "data.label": "data.label_column",
    "data.watch": "data.dvc_dependency",
    "engine.parallel": "engine.max_concurrency",
    "engine.start_seconds": "engine.startup_timeout",
    "evaluate.harness": "evaluate.lm_eval",
    "evaluate.likelihood": "evaluate.target_loglikelihood",
    "evaluate.prices.hosting_month": "evaluate.prices.hosting_per_month",
    "evaluate.useful": "evaluate.min_useful_value",
    "model.batch_tokens": "model.max_batch_tokens",
    "prompt.instruction": "prompt.system_prompt",
    "prompt.remote.key_variable": "prompt.remote.api_key_env",
    "prompt.remote.parallel": "prompt.remote.max_concurrency",
    "prompt.remote.retries": "prompt.remote.max_retries",
    "prompt.remote.url": "prompt.remote.base_url",
    "prompt.short_instruction": "prompt.tuned_system_prompt",
    "prompt.trial_rows": "prompt.search.selection_rows",
    "prompt.variants": "prompt.system_prompt_variants",
    "register.gate.champion": "register.gate.require_beating_champion",
    "register.gate.forgotten": "register.gate.max_forgetting",
    "register.gate.minimum": "register.gate.min_primary_metric",
    "register.gate.accept_unknown_license": "register.gate.accept_unknown_licenses",
    "train.best.rows": "train.best.eval_rows",
    "train.grpo_reward": "train.grpo_rewards.primary",
    "train.kinds": "train.record_types",
    "train.launcher.processes": "train.launcher.num_processes",
    "train.replay.share": "train.replay.fraction",
    "train.replay.watch": "train.replay.dvc_dependency",
    "train.reward": "train.grpo_rewards.primary",
    "train.share": "train.train_fraction",
    "train.watch": "train.dvc_dependency",
}
# An entry of a defaults list, such as `- override /train/launcher@whole.launcher: ddp`.
DEFAULT = re.compile(r"\s*-\s+(?:(?:override|optional)\s+)*(/?)([\w/]+)(@[\w.]+)?:\s*([^#]*)")
SEE_DOCS = "docs/configuration.md lists all former names."


def find_new_key(key: str) -> str | None:
    """Return the current name of a former key or of a key below it.

    Returns:
        The current name, or None if the key is not a former one.
    """
    section = "".join(re.findall(r"^rivals\.[^.]+\.", key))  # a rival is a section like `train`
    known = f"train.{key.removeprefix(section)}" if section else key
    for old, new in KEYS.items():
        if known == old or known.startswith(f"{old}."):
            today = new.removeprefix("train.") if section else new
            return f"{section}{today}{known.removeprefix(old)}"
    return None


def find_new_override(override: str) -> str | None:
    """Return an override of the command line with current names.

    Returns:
        The new override, or None if the override uses no former name.
    """
    key, equals, chosen = override.lstrip("+~").partition("=")
    prefix = override[: len(override) - len(override.lstrip("+~"))]
    value = equals + chosen
    if key in GROUPS:
        return f"{prefix}{GROUPS[key]}{value}"
    for old, new in OPTIONS.items():
        group, option = old.split("=")
        if key == group and option in re.findall(r"[\w-]+", value):
            changed = re.sub(rf"(?<![\w-]){option}(?![\w-])", new.split("=")[1], value)
            return f"{prefix}{key}{changed}"
    new_key = find_new_key(key)
    return f"{prefix}{new_key}{value}" if new_key else None


def list_former_defaults(folder: Path) -> Iterator[str]:
    """Yield a message for each former name in a defaults list of a configuration folder.

    A name without a slash is relative to the folder of its file, so only a file at the top can name
    a group of the top in this way.
    """
    for path in sorted(folder.rglob("*.yaml")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            entry = DEFAULT.match(line)
            if entry and (entry[1] or path.parent == folder):
                new = find_new_override(f"{entry[2]}={entry[4].strip()}")
                if new:
                    group, _, option = new.partition("=")
                    yield (
                        f"{path}, line {number}: {line.strip()}: this name has changed. "
                        f"Write {entry[1]}{group}{entry[3] or ''}: {option}. {SEE_DOCS}"
                    )


class FormerNames(SearchPathPlugin):
    """Checks for former names before Hydra composes the configuration.

    Hydra's own message would not give the new name.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leave the search path as it is.

        Raises:
            SystemExit: The command line or a defaults list uses a former name.
        """
        for argument in sys.argv[1:]:
            override = re.sub(r"^(-S|--set-param=)", "", argument).removeprefix("params.yaml:")
            new = find_new_override(override)
            if new:
                sys.exit(f"{override}: this name has changed. Write {new}. {SEE_DOCS}")
        for element in search_path.get_path():
            folder = Path((element.path or "").removeprefix("file://"))
            # `params.yaml`, which the stages read, has no defaults list.
            if (folder / "config.yaml").is_file():
                for message in list_former_defaults(folder):
                    sys.exit(message)
