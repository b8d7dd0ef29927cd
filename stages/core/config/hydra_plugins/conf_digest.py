"""The resolver `${conf_digest:}`: the digest of the files under `conf/` at the moment of composition.

DVC imports this folder before it composes `params.yaml` (`hydra.plugins_path` in `.dvc/config`); the stages import
it through `stages.core.config.schema`. It imports nothing of Tuneproof, which DVC's own process does not have on its
path.
"""

import hashlib
from pathlib import Path

from omegaconf import OmegaConf

CONF = Path(__file__).resolve().parents[4] / "conf"


def conf_digest(conf: Path = CONF) -> str:
    """SHA-256, in hex, over the sorted relative paths and the bytes of every YAML file under `conf`."""
    digest = hashlib.sha256()
    for path in sorted(conf.rglob("*.yaml")):
        digest.update(
            path.relative_to(conf).as_posix().encode() + b"\0" + path.read_bytes() + b"\0"
        )
    return digest.hexdigest()


OmegaConf.register_new_resolver("conf_digest", conf_digest, replace=True)
