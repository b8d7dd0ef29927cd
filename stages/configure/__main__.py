"""Stop before any work if `params.yaml` differs from what `conf/` composes, or is not valid.

`dvc exp run` composes `params.yaml` from `conf/`. `dvc repro` takes `params.yaml` as it is, so
after an edit of `conf/` it would run with old values. This first stage compares the digest of the
files with the one that the composition put into `params.yaml`. It writes `data/.configured`, which
never changes, so no other stage runs because of it.

    dvc repro configure
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from stages.core.config.hydra_plugins.conf_digest import conf_digest
from stages.core.config.schema import parse
from stages.core.entrypoint import plain_main
from stages.core.errors import UserError
from stages.core.storage.files import atomic_write


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@plain_main("configure")
def main(cfg: DictConfig) -> None:
    """Compare the digests and check the configuration."""
    if cfg.get("conf_digest") != conf_digest():
        raise UserError(
            "conf/ has changed since params.yaml was composed, so `dvc repro` would use old values.\n"
            "Run `dvc exp run` (with your -S choices). It composes conf/ into params.yaml and runs "
            "what changed.\n"
            "In a queued or temporary experiment, run `git add` on a new file in conf/ first."
        )
    parse(cfg)
    atomic_write(Path("data/.configured"), b"params.yaml is the composition of conf/\n")


if __name__ == "__main__":
    main()
