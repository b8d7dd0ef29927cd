"""Repair what a killed DVC may leave, so that `dvc repro` continues. `make repro` runs it first.

    python -m tools.recover

It changes nothing that DVC can read. DVC overwrites `dvc.lock` and its own list of busy files in
place, so a process that is killed in that moment leaves them empty or cut off, and every later
`dvc repro` fails. Other damage, such as an empty `params.yaml`, only the user can repair. The tool
then says how, and exits with 1.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from dvc.dvcfile import LOCK_FILE
from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils import strictyaml
from omegaconf import OmegaConf

from stages.core.config.schema import Config
from stages.core.entrypoint import make_parser, tool_main
from stages.core.errors import UserError
from stages.core.storage.files import atomic_write

KEPT = Path(".tuneproof/dvc.lock")
"""The last `dvc.lock` that DVC could read. It is newer than that of the commit."""
DAMAGED = Path(".tuneproof/dvc.lock.damaged")
PARAMS = Path("params.yaml")
RWLOCK = Path(".dvc/tmp/rwlock")
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
NO_MD5 = "0" * 32  # stands for the hash of an output that DVC does not cache
CONFLICT = b"<<<<<<< "


@tool_main("recover")
def main() -> None:
    """Check and repair the files, and say in one sentence what was repaired."""
    make_parser("tools.recover", __doc__).parse_args()
    check_git()
    check_params()
    for done in (restore_lock(), remove_broken_rwlock()):
        if done:
            sys.stderr.write(f"recover: {done}\n")


def check_git() -> None:
    """Check that no git process holds the index.

    Raises:
        UserError: It is locked, and DVC's experiments would fail.
    """
    lock = Path(_git("rev-parse", "--git-path", "index.lock").decode().strip() or ".git/index.lock")
    if lock.exists():
        raise UserError(
            f"{lock} exists, so git is running or was killed. If no git command and no editor "
            f"works in this repository, remove the file: rm {lock}"
        )


def check_params(path: Path = PARAMS) -> None:
    """Check that `params.yaml` has every section. Only a killed `dvc exp run` leaves it without.

    Raises:
        UserError: It is missing, empty or cut off. Its values may have come from `-S` choices that
            nobody but the user knows.
    """
    try:
        found = set(OmegaConf.load(path))
    except Exception:  # of the parser, or a missing file
        found = set()
    missing = {field.alias or name for name, field in Config.model_fields.items()} - found
    if missing:
        raise UserError(
            f"{path} lacks {', '.join(sorted(missing))}, as a `dvc exp run` may leave it that is "
            "killed while it writes it. Run the same `dvc exp run` with its -S choices again, or "
            f"take the values of the commit with `git checkout -- {path}`."
        )


def restore_lock(path: Path = Path(LOCK_FILE)) -> str | None:
    """Restore `dvc.lock` if DVC cannot read it, and keep a copy of it if it can.

    Nothing is lost if the copy is older than the damaged file, because DVC finds the outputs of
    every finished stage in its run cache. It runs only `prepare` again.

    Returns:
        What was done; None if nothing had to be done.

    Raises:
        UserError: The file has an unresolved merge conflict.
    """
    found = _read(path)
    if CONFLICT in found:
        raise UserError(
            f"{path} has an unresolved merge conflict. Take one side with `git checkout --ours "
            f"{path}` or `git checkout --theirs {path}`, then run `git add {path}` and `dvc repro`."
        )
    if not path.exists():
        return None
    if is_readable(path):
        atomic_write(KEPT, found)
        return None
    atomic_write(DAMAGED, found)
    said = f"DVC was killed while it wrote {path}, so it was {{}}; the damaged file is {DAMAGED}."
    for origin, data in (
        ("the last run", _read(KEPT)),
        ("the commit", _git("show", f"HEAD:./{path}")),
    ):
        if data:
            atomic_write(path, data)
            return said.format(f"restored from {origin}")
    path.unlink()
    return said.format("removed")


def is_readable(path: Path) -> bool:
    """Return whether DVC can read a `dvc.lock` and no hash in it is cut off.

    DVC's schema accepts a file that ends in the middle of a hash, and then DVC fails on it.
    """
    try:
        stages = strictyaml.load(str(path), COMPILED_LOCKFILE_SCHEMA)[0].get("stages", {})
    except DvcException:
        return False
    entries = [
        entry
        for stage in stages.values()
        for kind in ("deps", "outs")
        for entry in stage.get(kind, [])
    ]
    return all(
        entry.get("hash", "md5") == "md5" and MD5.fullmatch(str(entry.get("md5", NO_MD5)))
        for entry in entries
    )


def remove_broken_rwlock(path: Path = RWLOCK) -> str | None:
    """Remove DVC's list of busy files if it is damaged.

    DVC itself removes from it what dead processes were busy with.
    """
    try:
        json.loads(_read(path) or (b"" if path.exists() else b"{}"))
    except ValueError:
        path.unlink()
        return f"removed {path}, which a killed DVC left damaged."
    return None


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], capture_output=True, check=False).stdout


if __name__ == "__main__":
    main()
