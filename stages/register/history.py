"""The history of an alias: each move is a tag of the registered model, which nothing overwrites."""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stages.core.tracking.runs import PREFIX
from stages.core.tracking.versions import MISSING

if TYPE_CHECKING:
    from mlflow import MlflowClient

HISTORY = PREFIX + "history."
ROLLBACK = "rollback"
REASON_LENGTH = 2_000  # characters; MLflow's databases hold 5,000 in a tag


@dataclass(frozen=True, slots=True)
class Move:
    """An alias went from one version to another."""

    version: str
    """The number of the version that got the alias."""
    replaced: str | None
    """The number of the version that had it before, or None if none had it."""
    action: str
    """`register`, `promote` or `rollback`."""
    reason: str
    """Why it moved, as a sentence."""
    at: str
    """When it moved, as ISO 8601 in UTC."""


def move_alias(
    client: "MlflowClient",
    name: str,
    alias: str,
    version: str,
    replaced: str | None,
    action: str,
    reason: str,
) -> None:
    """Record a move and then set the alias, under the lock of `stages.register.lock`.

    A process that is killed in between leaves a record of a move that did not happen. The records
    after it and the present holder say so, see `find_previous`.
    """
    number = max(_read_tags(client, name).get(alias, {}), default=0) + 1
    key = _name_tag(alias, number)
    at = datetime.now(UTC).isoformat(" ", "seconds")
    move = Move(version, replaced, action, reason[:REASON_LENGTH], at)
    text = json.dumps(asdict(move), ensure_ascii=False)
    client.set_registered_model_tag(name, key, text)
    try:
        client.set_registered_model_alias(name, alias, version)
    except BaseException:
        with suppress(Exception):
            # Another process may have taken the lock over and used the number for its own move.
            ours = client.get_registered_model(name).tags.get(key) == text
            if ours and not _may_hold(client, name, alias, version):
                client.delete_registered_model_tag(name, key)
        raise


def forget_moves(client: "MlflowClient", name: str, version: str) -> None:
    """Delete the moves to a new version that does not get the alias."""
    for alias, tags in _read_tags(client, name).items():
        for number, text in tags.items():
            if json.loads(text)["version"] == version:
                client.delete_registered_model_tag(name, _name_tag(alias, number))


def read_history(client: "MlflowClient", name: str) -> dict[str, list[Move]]:
    """Read the moves of each alias of a registered model, the oldest one first."""
    return {
        alias: [Move(**json.loads(text)) for _, text in sorted(tags.items())]
        for alias, tags in _read_tags(client, name).items()
    }


def find_previous(moves: Sequence[Move], holder: str) -> str | None:
    """Find the version that held the alias before the present holder got it.

    The moves are replayed. What a move replaced shows which moves before it did not happen, and
    which were made without a record. A rollback takes moves back, so that a second one goes further
    back and never forward again.

    Args:
        moves: The moves of the alias, the oldest one first.
        holder: The number of the version that holds the alias now.
    """
    held: list[str] = []
    for move in moves:
        _go_back(held, move.replaced)
        if move.action == ROLLBACK:
            _go_back(held, move.version)
        else:
            held.append(move.version)
    _go_back(held, holder)
    return held[-2] if len(held) > 1 else None


def _go_back(held: list[str], holder: str | None) -> None:
    """Make a version the last one of those that held the alias, or none at all."""
    if holder is None:
        held.clear()
    elif holder in held:
        while held[-1] != holder:
            held.pop()
    else:
        held.append(holder)


def _may_hold(client: "MlflowClient", name: str, alias: str, version: str) -> bool:
    """Return whether a version holds an alias. It is true as well if the registry cannot say."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version) == version
    except MlflowException as error:
        return error.error_code not in MISSING
    except Exception:  # of a server, a network or a database
        return True


def _name_tag(alias: str, number: int) -> str:
    return f"{HISTORY}{alias}.{number:06}"


def _read_tags(client: "MlflowClient", name: str) -> dict[str, dict[int, str]]:
    """Read the tags of the moves by their alias, which has no dot, and their number."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for key, text in client.get_registered_model(name).tags.items():
        if key.startswith(HISTORY):
            alias, number = key.removeprefix(HISTORY).split(".")
            found[alias][int(number)] = text
    return found
