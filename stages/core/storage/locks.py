"""Locks that let one process at a time change a file, a folder or a database."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from stages.core.storage.files import atomic_write

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)
LIMIT = 60.0
"""How long to wait for a lock, in seconds."""
PATIENCE = 3.0
"""How long to wait without a word, in seconds."""


class LockTimeoutError(TimeoutError):
    """Another process held a lock for longer than the limit. The message names the process."""


@contextmanager
def hold_lock(lock: Path, what: str, limit: float | None = None) -> Iterator[None]:
    """Hold a lock during the block. The operating system frees the lock of a process that dies.

    Args:
        lock: The file of the lock, beside what it protects. A file beside it names the holder.
        what: What is protected, for messages, such as `the database mlflow.db`.
        limit: How long to wait, in seconds. None waits for `LIMIT`.

    Raises:
        LockTimeoutError: Another process held the lock for longer than the limit.
        OSError: The file of the lock cannot be written.
    """
    from filelock import FileLock

    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    holder = lock.with_name(f"{lock.name}.json")
    _acquire(held, holder, what, LIMIT if limit is None else limit)
    try:
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        named = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        atomic_write(holder, orjson.dumps(named))
        yield
    finally:
        holder.unlink(missing_ok=True)
        held.release()


def _acquire(held: "BaseFileLock", holder: Path, what: str, limit: float) -> None:
    from filelock import Timeout

    patience = min(PATIENCE, limit)
    try:
        held.acquire(timeout=patience)
    except Timeout:
        log.info("Waiting for %s, which is in use by %s.", what, _describe(holder))
    else:
        return
    try:
        held.acquire(timeout=limit - patience)
    except Timeout:
        raise LockTimeoutError(
            f"{what} is in use by {_describe(holder)}, and waiting {limit:g} seconds for it was "
            f"not enough. Wait until that process ends, or end it. Its lock is {held.lock_file}"
        ) from None


def _describe(holder: Path) -> str:
    """Name the process that holds a lock. The name is missing for a moment after it got it."""
    with suppress(OSError, orjson.JSONDecodeError, KeyError, TypeError):
        named = orjson.loads(holder.read_bytes())
        return f"process {named['pid']} on {named['host']} since {named['since']}"
    return "another process"
