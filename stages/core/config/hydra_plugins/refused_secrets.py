"""Refuse secrets before the configuration is composed, because `params.yaml` would record them.

The resolver `${oc.env:NAME}` would put the value of the environment variable there. DVC discovers
this plugin in its own process, for `dvc exp run -S`. The stages register it themselves
(`stages/core/config/schema.py`).
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.base import Node

ROOT = Path(__file__).resolve().parents[4]
WHAT_TO_DO = (
    "params.yaml, git and MLflow would record it. Store it in an environment variable, and give "
    "the variable's name to a key that ends with _env (docs/configuration.md, Secrets)."
)


def refuse_environment(*_: str, _node_: Node) -> NoReturn:
    """Refuse `${oc.env:NAME}`, also inside other interpolations.

    Raises:
        SystemExit: Always. OmegaConf would wrap another exception.
    """
    sys.exit(
        f"{_node_._get_full_key(None)}: ${{oc.env:…}} would put the value of an environment variable "
        "into params.yaml, which git and MLflow record. Write the value itself if it is no secret. "
        "A secret has a key that ends with _env and takes the name of its variable "
        "(docs/configuration.md, Secrets)."
    )


def list_refused_lines(folder: Path) -> Iterator[str]:
    """Yield a message for each secret in the files of a configuration folder, with its line."""
    _make_importable()
    from stages.core.errors import list_secrets

    for path in sorted(folder.rglob("*.yaml")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for secret in list_secrets(line):
                yield f"{path}, line {number}: holds {secret}"


def list_refused_overrides(arguments: Iterable[str]) -> Iterator[str]:
    """Yield a message for each secret in the overrides of a command line."""
    _make_importable()
    from stages.core.config.secrets import list_problems

    for argument in arguments:
        override = re.sub(r"^(-S|--set-param=)", "", argument).removeprefix("params.yaml:")
        key, _, value = override.lstrip("+~").partition("=")
        try:
            yield from list_problems(value if "${" in value else yaml.safe_load(value), key)
        except yaml.YAMLError:  # Hydra has a grammar of its own, and says what is wrong
            yield from list_problems(value, key)


class RefusedSecrets(SearchPathPlugin):
    """Checks the command line and the files before Hydra composes the configuration."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leave the search path as it is.

        Raises:
            SystemExit: The command line or a file of the configuration holds a secret.
        """
        for message in list_refused_overrides(sys.argv[1:]):
            sys.exit(f"{message}. {WHAT_TO_DO}")
        for element in search_path.get_path():
            folder = Path((element.path or "").removeprefix("file://"))
            # `schema.parse` checks `params.yaml`, which the stages read.
            if (folder / "config.yaml").is_file():
                for message in list_refused_lines(folder):
                    sys.exit(f"{message}. {WHAT_TO_DO}")


def _make_importable() -> None:
    """Put Tuneproof on the import path, where DVC's process does not have it."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))


OmegaConf.register_new_resolver("oc.env", refuse_environment, replace=True)
