"""Give an alias to a version, or back to its previous holder, under the lock of the registry."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.core.config.schema import Config
from stages.core.errors import UserError
from stages.core.tracking.version_files import fetch_checked
from stages.core.tracking.versions import Version, find_version
from stages.register.condition import Condition
from stages.register.history import ROLLBACK, find_previous, move_alias, read_history
from stages.register.lock import lock_model
from stages.register.promotion import mark_finished
from stages.register.registry import find_holder, is_same
from tools.registry.conditions import check_again

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the alias has moved, and the review as lines."""

    moved: bool
    lines: list[str]


def promote(
    config: Config, client: "MlflowClient", version: Version, alias: str, force: str | None
) -> Outcome:
    """Repeat the conditions of the gate, and give the version the alias if all of them hold.

    Args:
        config: The configuration of the workspace, which has the metric and the gate.
        client: The client of the registry.
        version: The version that gets the alias.
        alias: The alias.
        force: Why the alias moves even if a condition fails, or None. It is recorded.

    Raises:
        UserError: The version has the alias, the reason is empty, or another process has moved the
            alias meanwhile.
    """
    if force is not None and not force.strip():
        raise UserError("--force needs a reason, which the history of the alias records")
    holder = find_holder(client, version.name, alias)
    if is_same(holder, version):
        raise UserError(f"{version.name} version {version.number} has the alias {alias} already")
    conditions = check_again(config, version, holder)
    failed = [condition.name for condition in conditions if not condition.passed]
    lines = [f"  {condition.line}" for condition in conditions]
    if failed and force is None:
        first = f"{version.name} version {version.number} does not get the alias {alias}:"
        last = "To move it all the same, give a reason: --force REASON"
        return Outcome(False, [first, *lines, last])
    reason = _write_reason(conditions, failed, force)
    _move(client, version, alias, holder, "promote", reason)
    first = f"{version.name} version {version.number} has the alias {alias}. {_say_before(holder)}"
    return Outcome(True, [first, *lines, f"Recorded: {reason}"])


def rollback(client: "MlflowClient", name: str, alias: str, reason: str) -> str:
    """Give an alias back to the version that held it before, and say so in a sentence.

    Args:
        client: The client of the registry.
        name: The name of the registered model.
        alias: The alias.
        reason: Why. It is recorded.

    Raises:
        UserError: No version has the alias, the history knows no previous holder, its files are not
            those that were registered, or another process has moved the alias meanwhile.
    """
    if not reason.strip():
        raise UserError("--reason is empty. Say why, because the history of the alias records it")
    holder = find_version(client, f"{name}@{alias}")
    before = find_previous(read_history(client, name).get(alias, []), holder.number)
    if before is None:
        raise UserError(
            f"the history of {name} knows no version that had the alias {alias} before version "
            f"{holder.number}. `python -m tools.registry why {name}@{alias}` shows it. To choose a "
            f"version yourself: python -m tools.registry promote {name}/<number>"
        )
    version = find_version(client, f"{name}/{before}")
    fetch_checked(version)
    _move(client, version, alias, holder, ROLLBACK, reason.strip())
    return f"{name} version {before} has the alias {alias} again. {_say_before(holder)}"


def _move(
    client: "MlflowClient",
    version: Version,
    alias: str,
    holder: Version | None,
    action: str,
    reason: str,
) -> None:
    """Move the alias, if the holder is still the one that was looked at."""
    with lock_model(client, version.name) as still_held:
        now = find_holder(client, version.name, alias)
        if not is_same(now, holder):
            raise UserError(
                f"another process has moved the alias {alias} of {version.name} to "
                f"{f'version {now.number}' if now else 'no version'} meanwhile, so nothing was "
                "changed. Run the command again"
            )
        for one in (now, version):
            if one:
                mark_finished(client, one)
        still_held()
        replaced = holder.number if holder else None
        move_alias(client, version.name, alias, version.number, replaced, action, reason)


def _write_reason(conditions: list[Condition], failed: list[str], force: str | None) -> str:
    if force is None:
        return f"It passed the gate again ({', '.join(found.name for found in conditions)})."
    what = f"although these failed: {', '.join(failed)}" if failed else "although nothing failed"
    return f"Forced {what}. {force.strip()}"


def _say_before(holder: Version | None) -> str:
    return f"Version {holder.number} had it before." if holder else "No version had it before."
