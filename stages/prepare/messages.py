"""Single messages, their contents and their tools: what is wrong with them, and their canonical form.

The names of the codes and what they count are those of OpenAI's cookbook ("Data preparation and analysis for chat
model fine-tuning"), but for its mistakes: the roles developer and tool and calls of tools are known here.
"""

from collections.abc import Callable
from typing import Any

from stages.core.data.records import Message
from stages.prepare.samples import ROLES, Turn, parse_json

CALLS = {"tool_calls", "function_call"}
KEYS = {"role", "content", "name", "weight", "tool_call_id", "refusal", "reasoning_content", *CALLS}
DEFINITION = 'write {"type": "function", "function": {"name": "...", "parameters": {...}}}'
SHOWN = 50  # characters of a value in a finding
CALL = 'write {"type": "function", "function": {"name": "...", "arguments": "{...}"}}'

Report = Callable[[str, str, str, str], None]
"""Takes code, field, what was found, what to do."""


def shown(value: Any) -> str:
    """A value in a few characters, however large or deep it is."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return repr(value) if len(value) <= SHOWN else f"{value[:SHOWN]!r}…"
    return "nothing" if value is None else f"{value!r:.{SHOWN}}"


def to_message(turn: Turn, report: Report) -> Message | None:
    """The canonical message, or None after what makes it unusable was reported."""
    given = turn.message
    if not isinstance(given, dict):
        what = f"{shown(given)} in place of a message"
        report("message_missing_key", turn.field, what, 'write {"role": "...", "content": "..."}')
        return None
    # An empty column of a Parquet file is no key that somebody wrote.
    message = {
        key: value
        for key, value in given.items()
        if value is not None or key in {"role", "content"}
    }
    missing = {"role", "content"} - set(message) - ({"content"} if has_calls(message) else set())
    if missing:
        report(
            "message_missing_key", turn.field, f"no {' and no '.join(sorted(missing))}", "add it"
        )
    unknown = sorted(map(str, set(message) - KEYS))
    if unknown:
        report(
            "message_unrecognized_key",
            turn.field,
            f"unknown {shown(', '.join(unknown))}",
            "remove it",
        )
    role = turn.role
    if role is None:
        todo = f"use one of {', '.join(ROLES)}"
        report("unrecognized_role", turn.at("role"), f"role {shown(message.get('role'))}", todo)
    weight = message.get("weight")
    if isinstance(weight, bool) or weight not in (None, 0, 1):
        report("bad_weight", turn.at("weight"), shown(weight), "use 0 or 1")
        weight = None
    calls = _to_calls(turn, message, report)
    content = _to_content(turn, message, report)
    if role is None or content is None:
        return None
    made: Message = {"role": role, "content": content}
    made |= {
        key: str(message[key])
        for key in ("name", "tool_call_id", "reasoning_content")
        if key in message
    }
    made |= {"tool_calls": calls} if calls else {}
    return made | ({"weight": int(weight)} if weight is not None and role == "assistant" else {})


def has_calls(message: Any) -> bool:
    """Whether a message as it is given calls functions, well or badly."""
    return isinstance(message, dict) and any(message.get(key) for key in CALLS)


def to_tools(tools: Any, field: str, report: Report) -> list[dict[str, Any]]:
    """Definitions of functions in OpenAI's form, also from a bare list of functions or from JSON text."""
    tools = parse_json(tools)
    if not isinstance(tools, list):
        if tools:
            report(
                "bad_tools",
                field,
                f"{shown(tools)} in place of a list",
                f"give a list: {DEFINITION}",
            )
        return []
    made = []
    for i, tool in enumerate(tools):
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        named = isinstance(function, dict) and isinstance(function.get("name"), str)
        if not named or not isinstance(function.get("parameters") or {}, dict):
            report("bad_tools", f"{field}[{i}]", "no definition of a function", DEFINITION)
        else:
            made.append({"type": "function", "function": function})
    return made


def _to_content(turn: Turn, message: Message, report: Report) -> str | None:
    content = message.get("content")
    field = turn.at("content")
    if isinstance(content, list) and content and turn.own:
        parts = [
            part if isinstance(part, dict) else {"type": type(part).__name__} for part in content
        ]
        others = sorted(
            {shown(part.get("type")) for part in parts if not isinstance(part.get("text"), str)}
        )
        if others:
            report(
                "unsupported_content",
                field,
                f"a part of type {', '.join(others)}",
                "leave text parts alone",
            )
            return None
        content = "".join(part["text"] for part in parts)
    if content is None and has_calls(message):
        return ""
    if not isinstance(content, str):
        report(
            "missing_content",
            field,
            f"{shown(content)} in place of a text",
            "give a text that is not empty",
        )
        return None
    # A result of a tool may be empty, and that an answer of spaces is no target is for the checks of the whole row.
    empty = not content if turn.role == "assistant" else not content.strip()
    if empty and turn.role != "tool" and not has_calls(message):
        report("missing_content", field, "an empty text", "give a text that is not empty")
    return content


def _to_calls(turn: Turn, message: Message, report: Report) -> list[dict[str, Any]]:
    calls = message.get("tool_calls", [])
    field = turn.at("tool_calls")
    if message.get("function_call"):  # the form before tools
        calls = [message["function_call"]]
        field = turn.at("function_call")
    if not isinstance(calls, list):
        report("bad_tools", field, f"{shown(calls)} in place of a list", "give a list of calls")
        return []
    made = []
    for i, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, dict) else None
        arguments = (
            parse_json(function.get("arguments") or {}) if isinstance(function, dict) else None
        )
        at = f"{field}[{i}]" if field.endswith(".tool_calls") else field
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            report("bad_tools", at, "no call of a function", CALL)
        elif not isinstance(arguments, dict):
            report("bad_tools", at, "arguments that are no JSON object", CALL)
        else:
            kept = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
            made.append(
                {
                    **kept,
                    "type": "function",
                    "function": {"name": function["name"], "arguments": arguments},
                }
            )
    return made
