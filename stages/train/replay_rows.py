"""Replay rows, the files of chats from which they can come, and the mixing of several files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from stages.core.data.chat_files import SELF
from stages.core.data.records import Message
from stages.core.errors import UserError
from stages.core.storage.files import sha256_json


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """A general chat whose last message is the answer to learn."""

    id: str
    messages: list[Message]
    unfinished: bool = False
    """Whether the answer was cut before its end. The end of its turn is then not learned."""
    tools: list[dict[str, Any]] = field(default_factory=list)
    source: str = SELF
    """`self`, or the name of the file that the row comes from, without its suffix."""


def get_shares(files: Mapping[str, Path], weights: Mapping[str, float]) -> dict[str, float]:
    """Return the share of all replay rows that each source has.

    Args:
        files: The files from `list_chat_files`.
        weights: `train.replay.weights`. Without weights all files have the same share.

    Returns:
        The positive shares by the name of the file, or `self`. Their sum is 1.

    Raises:
        UserError: The weights do not name all files, name a file that does not exist, or are all 0.
    """
    given = weights or dict.fromkeys(files or [SELF], 1.0)
    total = sum(given.values())
    if not files.keys() <= given.keys() or not given.keys() <= {*files, SELF} or not total:
        raise UserError(
            f"train.replay.weights: expected a weight of each of {', '.join([*files, SELF])}, and "
            f"one above 0; got {dict(given)}. {SELF} may be left out, and a file with the weight 0 "
            "is not used."
        )
    return {name: weight / total for name, weight in given.items() if weight}


def draw_rows(
    rows: Sequence[ReplayRow], shares: Mapping[str, float], count: int, seed: int
) -> list[int]:
    """Draw the rows of an epoch: each source by its share, and each of its rows in turn.

    Args:
        rows: The different rows of all sources.
        shares: The shares from `get_shares`.
        count: The number of rows of an epoch.
        seed: The seed of the drawing.

    Returns:
        Indices of `rows`. A source repeats its rows if it is drawn more often than it has rows.
    """
    from datasets import Dataset, interleave_datasets

    numbers: dict[str, list[int]] = {name: [] for name in shares}
    for number, row in enumerate(rows):
        numbers[row.source].append(number)
    # Each source lasts for the whole epoch, so that none is exhausted before its end.
    repeated = [
        Dataset.from_dict({"row": own}).repeat(-(-count // len(own))) for own in numbers.values()
    ]
    mixed = interleave_datasets(
        repeated, list(shares.values()), seed=seed, stopping_strategy="first_exhausted"
    )
    return list(mixed["row"][:count])


def read_chats(path: Path, count: int, seed: int) -> list[ReplayRow]:
    """Select rows from a JSONL file of chats.

    Args:
        path: The file, which exists. Each line has `messages` and, if needed, `tools` and
            `unfinished`.
        count: The maximum number of rows.
        seed: The seed of the selection.

    Returns:
        The selected rows in the order of the file.

    Raises:
        UserError: The file is empty or has a line that is not an answered chat.
    """
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
        f"replay-{path.stem}-{number}",
        messages,
        bool(value.get("unfinished")),
        value.get("tools") or [],
        path.stem,
    )
