"""Rows of the formats that people have, turned into canonical records."""

from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.core.records import Message, Record
from stages.prepare.source import Row, read_rows

ROLES = ("system", "user", "assistant")
SHOWN = 10  # problems in one message


def to_record(row: Row) -> Record | str:
    """The record of a chat row `{"messages": [...]}` or an evals row `{"input": [...], "ideal": "..."}`.

    Returns:
        The record, or a sentence that says what is wrong, where, and what was expected.
    """
    value = row.value
    if not isinstance(value, dict):
        return f"line {row.line}: expected an object, got {type(value).__name__}"
    if "messages" in value:
        messages, field = value["messages"], "messages"
    elif "input" in value:
        prompt, ideal, field = value["input"], value.get("ideal"), "input"
        ideal = ideal[0] if isinstance(ideal, list) and ideal else ideal
        if not isinstance(ideal, str) or not ideal.strip():
            return f"line {row.line}, field `ideal`: there is no target; expected a text that is not empty"
        messages = [*prompt, {"role": "assistant", "content": ideal}] if isinstance(prompt, list) else prompt
    else:
        return (
            f'line {row.line}: expected a chat `{{"messages": [...]}}` or an evals row '
            f'`{{"input": [...], "ideal": "..."}}`, got the fields {sorted(value)}'
        )
    problem = _check(messages, field)
    if problem:
        return f"line {row.line}, {problem}"
    return Record.of([_message(message) for message in messages])


def _check(messages: Any, field: str) -> str | None:
    if not isinstance(messages, list) or not messages:
        return f"field `{field}`: expected a list of messages that is not empty"
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            return f'field `{field}[{i}]`: expected `{{"role": "...", "content": "text"}}`'
        if message.get("role") not in ROLES:
            return f"field `{field}[{i}].role`: expected one of {', '.join(ROLES)}, got {message.get('role')!r}"
    if messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
        return f"field `{field}`: there is no target; the last message must be the assistant's and not empty"
    if not any(message["role"] == "user" for message in messages[:-1]):
        return f"field `{field}`: there is no question; expected a message of the user before the target"
    return None


def _message(message: dict[str, Any]) -> Message:
    return {"role": message["role"], "content": message["content"]}


def get_records(path: Path) -> list[Record]:
    """The records of a JSONL file, in its order.

    Raises:
        UserError: rows that are not sound; the message names every kind of problem with its line, ten at most.
    """
    rows, problems = read_rows(path)
    records = []
    for row in rows:
        record = to_record(row)
        if isinstance(record, str):
            problems.append(record)
        else:
            records.append(record)
    if problems:
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UserError(
            f"{path}: {len(problems)} of {len(problems) + len(records)} rows cannot be used:\n  "
            + "\n  ".join(problems[:SHOWN])
            + more
            + "\nMend these lines and run again; no row is dropped silently."
        )
    if not records:
        raise UserError(f"{path}: there are no rows in it; expected one JSON object a line")
    return records
