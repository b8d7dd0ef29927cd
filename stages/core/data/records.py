"""The canonical record, which every stage after `prepare` reads. Its JSON Schema is `record.schema.json`."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

from stages.core.config.base import Kind
from stages.core.storage.files import read_jsonl, sha256_json

Message = dict[str, Any]
PREPARED = Path("data/prepared")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """One row. In every kind but `prompt` the last message, of role `assistant`, is the target."""

    id: str
    """16 hex digits of the SHA-256 of the content: stable when rows are added or moved."""
    messages: list[Message]
    """`role` (system, user, assistant, tool) and `content`; where there are any `tool_calls`, `name`, `weight`, …"""
    kind: Kind = "chat"
    """`text` is prose without a chat template, its one message the text; `prompt` asks and has no target."""
    tools: list[dict[str, Any]] = field(default_factory=list)
    """Definitions of the functions that may be called."""
    rejected: Message | None = None
    """`preference`: the worse answer in place of the target."""
    desirable: bool | None = None
    """`unpaired`: whether the target is wanted."""
    meta: dict[str, Any] = field(default_factory=dict)
    """`label`, `group`, and in `columns` those that `data.keep` names; no part of the content."""

    @classmethod
    def of(
        cls, messages: list[Message], *, meta: dict[str, Any] | None = None, **content: Any
    ) -> "Record":
        """The record of this content (`kind`, `tools`, `rejected`, `desirable`)."""
        given = {name: value for name, value in content.items() if value not in (None, [], "chat")}
        digest = sha256_json({"messages": messages, **given} if given else messages)
        return cls(digest[:16], messages, meta=meta or {}, **given)

    @property
    def prompt(self) -> list[Message]:
        """The messages before the target."""
        return self.messages if self.kind == "prompt" else self.messages[:-1]

    @property
    def question(self) -> str:
        """The text of the prompt without the system messages; with them where there is nothing else."""
        asked = [message["content"] for message in self.prompt if message["role"] != "system"]
        return "\n".join(asked or [message["content"] for message in self.prompt])

    @property
    def target(self) -> str:
        """The text that the model should answer; a call of tools as JSON."""
        last = self.messages[-1]
        return last["content"] or orjson.dumps(last.get("tool_calls", [])).decode()

    def dump(self) -> bytes:
        """One line of JSON without the fields that say nothing."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {
            name: value
            for name, value in values.items()
            if value is not None and value not in ({}, [])
        }
        return orjson.dumps(kept, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def load(cls, line: bytes) -> "Record":
        """The record that `dump` wrote."""
        return cls(**orjson.loads(line))


def read_records(split: str) -> list[Record]:
    """The records of a prepared split (`train`, `validation`, `test`), in the file's order.

    Raises:
        UserError: `prepare` has not run.
    """
    return [Record(**row) for row in read_jsonl(PREPARED / f"{split}.jsonl")]
