"""A lock in the registry, so that one process on one machine at a time moves an alias of a model.

MLflow sets an alias whoever holds it, so two processes that have both looked at the champion could
both replace it. The lock is a registered model with the name of the model and `.lock` behind it. A
registry accepts a name once, in one transaction of its database, so of all machines that use the
registry one creates it. The name of a real model has no dot. The lock exists for moments.

A process that is killed leaves its lock. Whoever waits sees the same token for `LEASE` seconds by
its own clock, so the clocks of the machines need not agree. On the machine of the killed process
nobody waits. The waiting process then renames the lock to a name with the token of the killed
process. A registry renames once to a name, so one of several waiting processes succeeds, and none
renames the lock of the next holder by mistake.

What remains possible: a process that stands still for longer than the lease and then continues has
lost the lock. `still_held` says so before the alias moves. Between that look and the move, one
request, nothing protects the alias. `register` is safe there too, because the next holder deletes
the unfinished version of the process that stood still, and MLflow sets no alias on a deleted
version. Whoever moves an alias in MLflow's UI does not ask for the lock.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import TYPE_CHECKING

from stages.core.storage.locks import LockTimeoutError, describe_holder, describe_this_process
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.versions import MISSING

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)
SUFFIX = ".lock"
TOKEN = PREFIX + "lock_token"
HOLDER = PREFIX + "lock_holder"
LEASE = 60.0  # seconds after which a lock that nobody gave back is taken over; moves take moments
LIMIT = 5 * LEASE  # seconds to wait for several holders in a row
POLL = 0.5  # seconds between two looks
PATIENCE = 3.0  # seconds to wait without a word
TAKEN = ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")
"""The codes of MLflow's exceptions if another process was faster. The second one says that the lock
was there, and was gone when MLflow looked at it."""


@contextmanager
def lock_model(client: "MlflowClient", name: str) -> Iterator[Callable[[], None]]:
    """Hold the lock of a registered model during the block.

    Args:
        client: The client of the registry.
        name: The name of the model, which need not exist.

    Yields:
        A function `still_held` to call right before an alias moves. It raises LockTimeoutError if
        another process has taken the lock over.

    Raises:
        LockTimeoutError: Other processes hold the lock for longer than `LIMIT`.
        MlflowException: The registry cannot be used.
    """
    lock = name + SUFFIX
    token = token_hex(8)

    def still_held() -> None:
        holder = _read(client, lock)
        if holder.get(TOKEN) != token:
            raise LockTimeoutError(
                f"the lock of {name} in the registry was lost, because this process held it for "
                f"longer than {LEASE:.0f} seconds. {_say(name, holder)} Run the command again."
            )

    taken = _acquire(client, name, token)
    try:
        yield still_held
    finally:
        with suppress(Exception):  # the lease ends the lock if the registry is away
            if _read(client, lock).get(TOKEN) == token:
                client.delete_registered_model(lock)
            for left in taken:
                client.delete_registered_model(left)


def _acquire(client: "MlflowClient", name: str, token: str) -> list[str]:
    """Create the lock, and return the new names of those of killed processes."""
    lock = name + SUFFIX
    taken: list[str] = []
    started = seen = time.monotonic()
    last = None
    warned = False
    while not _create(client, lock, token):
        holder = _read(client, lock)
        now = time.monotonic()
        if holder.get(TOKEN) == token:  # the answer to an earlier request was lost
            break
        if holder.get(TOKEN) != last:
            last = holder.get(TOKEN)
            seen = now
        if last and (now - seen >= LEASE or _was_killed(holder)):
            taken += _take_away(client, lock, last)
            continue
        if now - started > LIMIT:
            raise LockTimeoutError(f"{_say(name, holder)} Wait until it has ended, or end it.")
        if now - started > PATIENCE and not warned:
            warned = True
            log.warning("%s Waiting for up to %.0f seconds.", _say(name, holder), LIMIT)
        time.sleep(POLL)
    return taken


def _create(client: "MlflowClient", lock: str, token: str) -> bool:
    """Create the lock, and return whether this process did."""
    from mlflow.exceptions import MlflowException

    tags = {TOKEN: token, HOLDER: json.dumps(describe_this_process())}
    try:
        client.create_registered_model(lock, tags=tags, description="Exists for moments.")
    except MlflowException as error:
        if error.error_code in TAKEN:
            return False
        raise
    return True


def _take_away(client: "MlflowClient", lock: str, token: str) -> list[str]:
    """Rename the lock of a killed process, unless another process did so or it is a new lock.

    Returns:
        The new name, if this process has renamed it. The model of this name stays until this
        process gives its own lock back, so that nobody renames another lock to it.
    """
    from mlflow.exceptions import MlflowException

    gone = f"{lock}.{token}"
    try:
        client.rename_registered_model(lock, gone)
    except MlflowException as error:
        if error.error_code in TAKEN:
            return []
        raise
    log.warning("Took over the lock %s, which a killed process had left.", lock)
    return [gone]


def _read(client: "MlflowClient", lock: str) -> Mapping[str, str]:
    """Read the tags of the lock, which are empty if nobody holds it."""
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_registered_model(lock).tags)
    except MlflowException as error:
        if error.error_code in MISSING:
            return {}
        raise


def _was_killed(holder: Mapping[str, str]) -> bool:
    """Return whether the holder ran on this machine and does not run any more.

    Containers may share the name of a host, and their ids of processes are not those here.
    """
    import psutil

    try:
        found = json.loads(holder[HOLDER])
        ours = describe_this_process()
        here = all(found[key] == ours[key] for key in ("host", "kernel"))
        return here and not psutil.pid_exists(int(found["pid"]))
    except (KeyError, TypeError, ValueError):
        return False


def _say(name: str, holder: Mapping[str, str]) -> str:
    """Say who holds the lock."""
    try:
        who = describe_holder(json.loads(holder[HOLDER]))
    except (KeyError, TypeError, ValueError):
        who = "another process"
    return f"The model {name} in the registry is in use by {who}."
