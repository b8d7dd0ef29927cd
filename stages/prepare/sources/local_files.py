"""Find the local files that `data.source.path` means."""

import stat
from glob import glob
from pathlib import Path
from typing import Any

from stages.core.errors import UserError

LOCAL = ("file://", "local://")
KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_local(pattern: str) -> bool:
    """Tell whether a path is local. fsspec gives `::` and `#` a meaning, in URLs alone."""
    return "://" not in pattern or pattern.startswith(LOCAL)


def find_local(pattern: str) -> list[Any]:
    """Return the files of a path or glob in the order of their names, unopened, as fsspec does.

    A file whose name contains `*`, `?` or `[` is found by its own name. `~` is the home folder
    unless a file is called so.

    Raises:
        UserError: A path is a folder, a pipe, a socket or a device, or it cannot be looked at.
    """
    from fsspec.core import OpenFile
    from fsspec.implementations.local import LocalFileSystem

    expanded = _expand(pattern.partition("://")[2] if pattern.startswith(LOCAL) else pattern)
    # Path.glob takes no absolute pattern.
    found = glob(str(expanded), recursive=True, include_hidden=True)  # noqa: PTH207
    paths = [str(expanded)] if expanded.exists() else sorted(found)
    for path in paths:
        _check(path)
    system = LocalFileSystem()
    return [OpenFile(system, str(Path(path).absolute()), "rb") for path in paths]


def _expand(pattern: str) -> Path:
    path = Path(pattern)
    if path.exists() or not pattern.startswith("~"):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path


def _check(path: str) -> None:
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise UserError(f"{path}: cannot be read (data.source.path): {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise UserError(
            f"{path}: this is a folder, not a file (data.source.path); "
            "for a folder pass a glob: folder/*.jsonl"
        )
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise UserError(
            f"{path}: this is {kind}, not a file (data.source.path); "
            "write what it gives to a file and pass that"
        )
