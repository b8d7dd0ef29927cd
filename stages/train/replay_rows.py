"""Replay rows and the file of chats from which they can come."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from stages.core.data.records import Message
from stages.core.errors import UserError
from stages.core.storage.files import sha256_json

SELF = "self"  # the value of train.replay.source for rows that the base model writes


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """A general chat whose last message is the answer to learn."""

    id: str
    messages: list[Message]
    unfinished: bool = False
    """Whether the answer was cut before its end. The end of its turn is then not learned."""
    tools: list[dict[str, Any]] = field(default_factory=list)


def read_chats(path: Path, count: int, seed: int) -> list[ReplayRow]:
    """Select rows from a JSONL file of chats.

    Args:
        path: The file. Each line has `messages` and, if needed, `tools` and `unfinished`.
        count: The maximum number of rows.
        seed: The seed of the selection.

    Returns:
        The selected rows in the order of the file.

    Raises:
        UserError: The file does not exist, is empty, or has a line that is not an answered chat.
    """
    if not path.is_file():
        raise UserError(
            f"train.replay.source={path}: the file does not exist. Set a JSONL file of chats, "
            f"or {SELF}."
        )
    lines = [(n, line) for n, line in enumerate(path.read_bytes().splitlines(), 1) if line.strip()]
    rows = [_parse(path, number, line) for number, line in lines]
    if not rows:
        raise UserError(
            f"train.replay.source={path}: the file is empty; expected one chat per line"
        )
    drawn = sorted(rows, key=lambda row: sha256_json([seed, asdict(row)]))[:count]
    kept = {row.id for row in drawn}
    return [row for row in rows if row.id in kept]


def _parse(path: Path, number: int, line: bytes) -> ReplayRow:
    try:
        value = orjson.loads(line)
        messages = value["messages"]
        empty = [
            m
            for m in messages
            if not m.get("tool_calls")
            and (not isinstance(m["content"], str) or (not m["content"] and m["role"] != "system"))
        ]
        if messages[-1]["role"] != "assistant" or empty:
            raise ValueError
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise UserError(
            f"train.replay.source={path}, line {number}: expected an object whose `messages` each "
            "have a `role` and a `content`, and whose last message is the assistant's answer. "
            "Correct or remove the line."
        ) from None
    return ReplayRow(
        f"replay-{number}", messages, bool(value.get("unfinished")), value.get("tools") or []
    )
