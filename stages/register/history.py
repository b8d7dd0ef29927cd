"""The history of an alias: each move is a tag of the registered model, which nothing overwrites."""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stages.core.tracking.runs import PREFIX

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

    A process that is killed in between leaves a record of a move that did not happen. It does no
    harm, because nobody looks up a version that does not hold the alias.
    """
    number = max(_read_tags(client, name).get(alias, {}), default=0) + 1
    key = f"{HISTORY}{alias}.{number:06}"
    at = datetime.now(UTC).isoformat(" ", "seconds")
    move = Move(version, replaced, action, reason[:REASON_LENGTH], at)
    client.set_registered_model_tag(name, key, json.dumps(asdict(move)))
    try:
        client.set_registered_model_alias(name, alias, version)
    except BaseException:
        with suppress(Exception):
            client.delete_registered_model_tag(name, key)
        raise


def read_history(client: "MlflowClient", name: str) -> dict[str, list[Move]]:
    """Read the moves of each alias of a registered model, the oldest one first."""
    return {
        alias: [Move(**json.loads(text)) for _, text in sorted(tags.items())]
        for alias, tags in _read_tags(client, name).items()
    }


def find_previous(moves: Sequence[Move], holder: str) -> str | None:
    """Find the version that held the alias before the present holder got it.

    A rollback is not such a move, so that a second one goes further back and not forward again.

    Args:
        moves: The moves of the alias, the oldest one first.
        holder: The number of the version that holds the alias now.
    """
    for move in reversed(moves):
        if move.version == holder and move.action != ROLLBACK:
            return move.replaced
    return None


def _read_tags(client: "MlflowClient", name: str) -> dict[str, dict[int, str]]:
    """Read the tags of the moves by their alias, which has no dot, and their number."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for key, text in client.get_registered_model(name).tags.items():
        if key.startswith(HISTORY):
            alias, number = key.removeprefix(HISTORY).split(".")
            found[alias][int(number)] = text
    return found
