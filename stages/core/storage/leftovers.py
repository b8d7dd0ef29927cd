"""Names of temporary files and folders that say which process writes them.

A process that is killed leaves its temporary files behind. The next writer removes them, but not
those of a process that still runs.
"""

import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

PARTIAL = "partial"  # what is being written
ASIDE = "aside"  # an earlier folder, until the new one is in its place
_NAME = re.compile(rf"\.(?P<name>.+)\.(?P<host>[^.~]*)~(?P<pid>\d+)\.({PARTIAL}|{ASIDE})")
DAY = 86_400  # seconds; no process of another machine writes one file for longer


def temporary_path(target: Path, kind: str) -> Path:
    """Return the path beside `target` that only this process uses.

    Args:
        target: The file or folder that will be replaced.
        kind: `PARTIAL` or `ASIDE`.
    """
    return target.with_name(f".{target.name}.{_get_host()}~{os.getpid()}.{kind}")


def find_leftovers(folder: Path, kind: str, name: str | None = None) -> Iterator[Path]:
    """Yield what processes that no longer run left in a folder and below it.

    Args:
        folder: The folder to search. It may be missing.
        kind: `PARTIAL` or `ASIDE`.
        name: Search only this folder itself, for what was left of the target with this name.
    """
    pattern = f".*.{kind}" if name is None else f".{name}.*.{kind}"
    for path in sorted(folder.rglob(pattern) if name is None else folder.glob(pattern)):
        found = _NAME.fullmatch(path.name)
        ours = found and name in (None, found["name"])
        if found and ours and not _is_alive(found["host"], int(found["pid"]), path):
            yield path


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what processes that no longer run left in a folder, as `find_leftovers` finds it."""
    for path in find_leftovers(folder, PARTIAL, name):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file or folder that another process may be removing too."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _get_host() -> str:
    """Return the name of this machine without dots, which separate the parts of a name here."""
    return socket.gethostname().replace(".", "_")


def _is_alive(host: str, pid: int, path: Path) -> bool:
    """Return whether another process may still write. Those of other machines cannot be asked.

    A container that starts again has the same name and often the same process id. What is left
    under its own id is therefore of a process that no longer runs.
    """
    import psutil

    if host == _get_host():
        return pid != os.getpid() and psutil.pid_exists(pid)
    try:
        return time.time() - path.stat().st_mtime < DAY
    except FileNotFoundError:
        return False
