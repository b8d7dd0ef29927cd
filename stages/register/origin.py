"""Record what a registered model came from, as files beside it.

`tools.verify` computes them again, and `tools.verify --rerun` trains again from them.
"""

import logging
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from shutil import copyfile
from typing import Any

from stages.core.data.verdict import MEASURED, VERDICT
from stages.core.environment.lineage import dump_config
from stages.core.environment.repository import get_changes
from stages.core.errors import list_secrets
from stages.core.models.candidates import Candidate
from stages.core.storage.files import atomic_write, sha256_file, sha256_json, write_json
from stages.core.storage.summaries import get_summary_file

log = logging.getLogger(__name__)
ORIGIN = "origin"
"""The folder of the files among the artifacts of a registered model."""
CONFIG = "config.json"
LOCK = "dvc.lock"
PACKAGES = "packages.txt"
CHANGES = "changes.diff"


def write_origin(folder: Path, candidate: Candidate, lineage: Mapping[str, Any]) -> None:
    """Write the files into a folder.

    These are the verdict with its measured part, the numbers of `prepare` with the hashes of the raw
    data, DVC's lock file, the resolved configuration, the installed packages, and the changes of the
    code since the commit, if it was judged with uncommitted ones. Changes that hold a secret are left
    out whole, because a patch in which a secret is hidden does not apply.

    Args:
        folder: An existing folder.
        candidate: The model.
        lineage: The lineage in the report.
    """
    copied = (VERDICT, MEASURED, get_summary_file("prepare"), Path(LOCK))
    for path in copied:
        if path.exists():
            copyfile(path, folder / path.name)
    write_json(folder / CONFIG, dump_config(candidate.run))
    atomic_write(folder / PACKAGES, "".join(f"{line}\n" for line in list_packages()).encode())
    changes = get_changes(lineage["git_commit"]) if lineage["git_dirty"] else ""
    secrets = sorted(set(list_secrets(changes)))
    if secrets:
        log.warning("The changes since the commit are not kept, because they hold %s", secrets[0])
    elif changes:
        atomic_write(folder / CHANGES, changes.encode("utf-8", "surrogateescape"))


def list_packages(folders: list[str] | None = None) -> list[str]:
    """List the installed packages as `name==version`, sorted.

    Args:
        folders: The folders of another environment's packages; None reads this environment.
    """
    packages = distributions(path=sys.path if folders is None else folders)
    named = ((package.metadata["Name"], package) for package in packages)
    # An installation that was interrupted leaves a folder without metadata.
    found = {(name, package.version) for name, package in named if name}
    return sorted({f"{name.lower().replace('_', '-')}=={version}" for name, version in found})


def hash_origin(folder: Path) -> str:
    """Compute the SHA-256 of all files of an origin."""
    files = (path for path in folder.iterdir() if path.is_file())
    return sha256_json({path.name: sha256_file(path) for path in files})
