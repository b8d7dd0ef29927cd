"""The resolver `${conf_digest:}` digests the files in `conf/` during composition.

DVC imports this folder before it composes `params.yaml` (`hydra.plugins_path` in `.dvc/config`).
The stages import it through `stages.core.config.schema`. It imports nothing from Tuneproof, because
Tuneproof is not on the import path of DVC's process.
"""

import hashlib
from pathlib import Path

from omegaconf import OmegaConf

CONF = Path(__file__).resolve().parents[4] / "conf"


def conf_digest(conf: Path = CONF) -> str:
    """Compute a digest of all YAML files under a folder.

    It is the SHA-256, in hex, of the sorted relative paths and the bytes of the files.
    """
    digest = hashlib.sha256()
    for path in sorted(conf.rglob("*.yaml")):
        digest.update(
            path.relative_to(conf).as_posix().encode() + b"\0" + path.read_bytes() + b"\0"
        )
    return digest.hexdigest()


OmegaConf.register_new_resolver("conf_digest", conf_digest, replace=True)
