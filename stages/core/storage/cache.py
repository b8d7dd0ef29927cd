"""A cache outside the repository, shared by clones and DVC's queued runs.

Each folder has a list of its files with the SHA-256 that they had when they were written. The list
is checked before the files are used.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from stages.core.errors import UserError
from stages.core.storage.files import atomic_directory, read_json, sha256_file, write_json
from stages.core.storage.locks import LONG, one_at_a_time

LIST = ".sha256.json"  # the name of the list in each folder


def cached_folder(key: str, fill: Callable[[Path], None], constant: bool = True) -> Path:
    """Return the cache folder of `key`, and fill it with `fill(folder)` if it does not exist.

    A folder is filled only once, even if several processes ask for it. A filled cache may be
    read-only. The cache is in `TUNEPROOF_CACHE`, or else in the user's cache folder.

    Args:
        key: The name of the folder, which may contain slashes.
        fill: Writes the files into an empty folder.
        constant: Whether the files stay as `fill` wrote them. Their SHA-256 is then checked by each
            process, at about 1.5 GB a second. A damaged folder is not filled again by itself,
            because that would hide a failing disk or an attack.

    Raises:
        UserError: The files are not those that were written, or the cache cannot be written.
    """
    folder = _get_root() / key
    done = folder / LIST if constant else folder
    if not done.exists():
        with locked(folder.with_name(f".{folder.name}.lock"), f"The cache {folder}"):
            if not done.exists():
                with atomic_directory(folder) as partial:
                    fill(partial)
                    if constant:
                        write_json(partial / LIST, _list_files(partial))
    if constant:
        _check(folder)
    return folder


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file in the cache.

    Args:
        path: The lock file.
        what: What it protects, as the subject of a sentence.

    Raises:
        UserError: The cache cannot be written, or another process holds the lock for an hour.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(one_at_a_time(path, what, LONG))
        except OSError as error:
            raise UserError(
                f"the cache cannot be written: {error}. Set TUNEPROOF_CACHE to a folder that you "
                f"can write (it is {_get_root()} now)."
            ) from None
        yield


def get_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hex, once in a process unless the file changes."""
    facts = path.stat()
    return _hash(path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)


@cache
def _hash(path: Path, *_: int) -> str:
    return sha256_file(path)


def _get_root() -> Path:
    from platformdirs import user_cache_path

    return Path(os.environ.get("TUNEPROOF_CACHE") or user_cache_path("tuneproof"))


def _list_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by its path, without the list itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): get_sha256(path)
        for path in files
        if path != folder / LIST
    }


def _check(folder: Path) -> None:
    """Compare the files of a folder with its list.

    Raises:
        UserError: A file was changed, added or removed.
    """
    try:
        recorded = read_json(folder / LIST)
        found = _list_files(folder)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / LIST}: {error}. {_advise(folder)}") from None
    if not isinstance(recorded, dict):
        raise UserError(f"{folder / LIST} is no list of files. {_advise(folder)}")
    for name in sorted(recorded.keys() | found.keys()):
        if recorded.get(name) != found.get(name):
            what = (
                f"has the SHA-256 {found[name]}, but {recorded[name]} was recorded when it was written"
                if name in recorded and name in found
                else "was removed"
                if name in recorded
                else "was added"
            )
            raise UserError(f"{folder / name}: this file of the cache {what}. {_advise(folder)}")


def _advise(folder: Path) -> str:
    return (
        "Something has damaged or changed the cache, so it is not used. Delete the folder "
        f"{folder} and run the command again, which then makes it anew."
    )
