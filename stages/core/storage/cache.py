"""A content-addressed cache outside the repository, shared by clones and by DVC's queued runs."""

import os
from collections.abc import Callable
from pathlib import Path

from stages.core.storage.files import whole_folder


def cached_folder(key: str, fill: Callable[[Path], None]) -> Path:
    """The folder of `key`, filled by `fill(folder)` the first time, once, also when several processes ask for it.

    The cache lies in `TUNEPROOF_CACHE`, or in the user's cache folder.
    """
    from filelock import FileLock
    from platformdirs import user_cache_path

    root = Path(os.environ.get("TUNEPROOF_CACHE") or user_cache_path("tuneproof"))
    folder = root / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            with whole_folder(folder) as partial:
                fill(partial)
    return folder
