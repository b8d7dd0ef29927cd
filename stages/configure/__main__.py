"""Stop before any work when `params.yaml` is not what `conf/` would compose, or is not a sound configuration.

`dvc exp run` composes `params.yaml` from `conf/`; `dvc repro` takes it as it is and would run with old values after an
edit of `conf/`. This first stage compares the digest of the files with the one that composition put into `params.yaml`.
Writes `data/.configured`, which never changes, so that it invalidates nothing.

    dvc repro configure
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from stages.core.config.hydra_plugins.conf_digest import conf_digest
from stages.core.config.schema import parse
from stages.core.entrypoint import plain_main
from stages.core.errors import UserError
from stages.core.storage.files import write_bytes


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@plain_main("configure")
def main(cfg: DictConfig) -> None:
    """Compare, check, and let the pipeline begin."""
    if cfg.get("conf_digest") != conf_digest():
        raise UserError(
            "conf/ has changed since params.yaml was composed; `dvc repro` would run with the old values.\n"
            "Run `dvc exp run` (with your -S choices): it composes conf/ into params.yaml and runs what changed.\n"
            "In a queued or temporary experiment: a new file in conf/ takes part only after `git add`."
        )
    parse(cfg)
    write_bytes(Path("data/.configured"), b"params.yaml is the composition of conf/\n")


if __name__ == "__main__":
    main()
