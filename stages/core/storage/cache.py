"""A content-addressed cache outside the repository, shared by clones and DVC's queued runs."""

import os
from collections.abc import Callable
from pathlib import Path

from stages.core.storage.files import atomic_directory


def cached_folder(key: str, fill: Callable[[Path], None]) -> Path:
    """Return the cache folder of `key`, and fill it with `fill(folder)` if it does not exist.

    A folder is filled only once, even if several processes ask for it. The cache is in
    `TUNEPROOF_CACHE`, or else in the user's cache folder.
    """
    from filelock import FileLock
    from platformdirs import user_cache_path

    root = Path(os.environ.get("TUNEPROOF_CACHE") or user_cache_path("tuneproof"))
    folder = root / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            with atomic_directory(folder) as partial:
                fill(partial)
    return folder
