"""Locks that name the process that holds them.

The operating system releases a lock when its holder ends, so a killed process blocks nobody. On a
network file system this works across machines if the file system supports `flock`, as NFS does
unless it is mounted with `nolock` or `local_lock`.
"""

import json
import logging
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from stages.core.errors import UserError

log = logging.getLogger(__name__)
PATIENCE = 3.0  # seconds to wait without a word
LIMIT = 60.0  # seconds to wait for a holder that needs the lock for moments
LONG = 3_600.0  # seconds to wait for a holder that downloads or asks a server
WORDS = 3  # of a command that are shown: `python -m stages.prepare`. Others may be secret.


class LockTimeoutError(UserError):
    """Another process held a lock for longer than the limit. The message names the process."""


@contextmanager
def one_at_a_time(
    path: Path,
    what: str,
    seconds: float | None = None,
    advice: str = "Wait until it has ended, or end it.",
) -> Iterator[None]:
    """Hold the lock file `path` during the block.

    Args:
        path: The lock file. It is created and stays.
        what: What the lock protects, as the subject of a sentence.
        seconds: How long to wait for the holder. None waits for `LIMIT`.
        advice: What to do if the holder does not end, as a whole sentence.

    Raises:
        LockTimeoutError: Another process still holds the lock after `seconds`.
        OSError: The file of the lock cannot be written.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    seconds = LIMIT if seconds is None else seconds
    patience = min(PATIENCE, seconds)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        if seconds > patience:
            log.warning("%s Waiting for up to %.0f seconds.", _say(path, what), seconds)
        try:
            lock.acquire(timeout=seconds - patience)
        except Timeout:
            raise LockTimeoutError(f"{_say(path, what)} {advice}") from None
    try:
        path.write_text(json.dumps(describe_this_process()))
        yield
    finally:
        lock.release()


def describe_this_process() -> dict[str, str | int]:
    """Return the id, the host, the command and the time of this process, to name it to others."""
    words = [Path(sys.orig_argv[0]).name, *sys.orig_argv[1:WORDS]]
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "kernel": _describe_kernel(),
        "command": shlex.join(words),
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
    }


def _describe_kernel() -> str:
    """Return the boot and the namespace within which the id of a process is unique, on Linux."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # another system, or a sandbox that hides it
        return "unknown"


def describe_holder(holder: Mapping[str, str | int]) -> str:
    """Name a process by what `describe_this_process` returned there."""
    return (
        f"process {holder['pid']} on {holder['host']} "
        f"(`{holder['command']}`, since {holder['since']})"
    )


def _say(path: Path, what: str) -> str:
    """Say who holds the lock."""
    try:
        who = describe_holder(json.loads(path.read_text()))
    # The holder has not written it yet, or another program holds the lock.
    except (ValueError, KeyError, TypeError, OSError):
        who = "another process"
    return f"{what} is in use by {who}."
