"""Replay rows, and the file of chats that they can come from."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from stages.core.data.records import Message
from stages.core.errors import UserError
from stages.core.storage.files import sha256_json

SELF = "self"  # the value of train.replay.source with which the base model writes the rows


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """One general chat. Its last message is the answer that is learned."""

    id: str
    messages: list[Message]
    unfinished: bool = False
    """Whether the answer was cut before its end: then no end of the turn is learned after it."""
    tools: list[dict[str, Any]] = field(default_factory=list)


def read_chats(path: Path, count: int, seed: int) -> list[ReplayRow]:
    """Rows of a JSONL file of chats (`messages`, and `tools` where there are any), drawn by the seed.

    Raises:
        UserError: the file is not there, is empty, or has a line that is no answered chat.
    """
    if not path.is_file():
        raise UserError(
            f"train.replay.source={path}: there is no such file; give a JSONL file of chats, or {SELF}"
        )
    lines = [(n, line) for n, line in enumerate(path.read_bytes().splitlines(), 1) if line.strip()]
    rows = [_parse(path, number, line) for number, line in lines]
    if not rows:
        raise UserError(f"train.replay.source={path}: the file is empty; expected one chat a line")
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
            if not (m.get("tool_calls") or (isinstance(m["content"], str) and m["content"]))
        ]
        if messages[-1]["role"] != "assistant" or empty:
            raise ValueError
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise UserError(
            f"train.replay.source={path}, line {number}: expected an object whose `messages` each have a `role` and a "
            "`content`, the last one the assistant's answer. Correct or remove the line."
        ) from None
    return ReplayRow(
        f"replay-{number}", messages, bool(value.get("unfinished")), value.get("tools") or []
    )
