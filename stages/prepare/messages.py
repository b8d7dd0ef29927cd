"""Single messages, their contents and their tools: what is wrong with them, and their canonical form.

The names of the codes and what they count are those of OpenAI's cookbook ("Data preparation and analysis for chat
model fine-tuning"), but for its mistakes: the roles developer and tool and calls of tools are known here.
"""

from collections.abc import Callable
from typing import Any

from stages.core.records import Message
from stages.prepare.formats import Turn, parse_json

ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}
ROLES |= {"tool": "tool", "function": "tool"}
CALLS = {"tool_calls", "function_call"}
KEYS = {"role", "content", "name", "weight", "tool_call_id", "refusal", "reasoning_content", *CALLS}

Report = Callable[[str, str, str, str], None]
"""Takes code, field, what was found, what to do."""


def to_message(turn: Turn, report: Report) -> Message | None:
    """The canonical message, or None after what is wrong with it was reported."""
    given = turn.message
    if not isinstance(given, dict):
        what = f"{type(given).__name__} in place of a message"
        report("message_missing_key", turn.field, what, 'write {"role": "...", "content": "..."}')
        return None
    # An empty column of a Parquet file is no key that somebody wrote.
    message = {key: value for key, value in given.items() if value is not None or key in {"role", "content"}}
    missing = {"role", "content"} - set(message) - ({"content"} if CALLS & set(message) else set())
    if missing:
        report("message_missing_key", turn.field, f"no {' and no '.join(sorted(missing))}", "add it")
    unknown = sorted(map(str, set(message) - KEYS))
    if unknown:
        report("message_unrecognized_key", turn.field, f"unknown {', '.join(unknown)}", "remove it")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        field = f"{turn.field}.role" if turn.own else turn.field
        report("unrecognized_role", field, f"role {role}", f"use one of {', '.join(ROLES)}")
        role = None
    weight = message.get("weight")
    if isinstance(weight, bool) or weight not in (None, 0, 1):
        report("bad_weight", f"{turn.field}.weight", repr(weight), "use 0 or 1")
    calls = _to_calls(turn.field, message, report)
    content = _to_content(turn, message, bool(calls), report)
    if missing or role is None or content is None or calls is None:
        return None
    made: Message = {"role": ROLES[role], "content": content}
    made |= {key: str(message[key]) for key in ("name", "tool_call_id", "reasoning_content") if key in message}
    made |= {"tool_calls": calls} if calls else {}
    return made | ({"weight": int(weight)} if weight in (0, 1) and ROLES[role] == "assistant" else {})


def to_tools(tools: Any, report: Report) -> list[dict[str, Any]]:
    """Definitions of functions in OpenAI's form, also from a bare list of functions or from JSON text."""
    tools = parse_json(tools)
    made = []
    for i, tool in enumerate(tools if isinstance(tools, list) else [tools] if tools else []):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            todo = 'write {"type": "function", "function": {"name": "...", "parameters": {...}}}'
            report("bad_tools", f"tools[{i}]", "no definition of a function", todo)
        else:
            made.append({"type": "function", "function": function})
    return made


def _to_content(turn: Turn, message: Message, calls: bool, report: Report) -> str | None:
    content, role = message.get("content"), message.get("role")
    field = f"{turn.field}.content" if turn.own else turn.field
    if isinstance(content, list) and content:
        parts = [part if isinstance(part, dict) else {"type": type(part).__name__} for part in content]
        others = sorted({str(part.get("type")) for part in parts if not isinstance(part.get("text"), str)})
        if others:
            report("unsupported_content", field, f"a part of type {', '.join(others)}", "leave text parts alone")
            return None
        content = "".join(part["text"] for part in parts)
    if content is None and calls:
        return ""
    may_be_empty = role in {"assistant", "tool", "function"}
    if "content" in message and (not isinstance(content, str) or (not content and not may_be_empty)):
        report("missing_content", field, f"{content!r:.60}", "give a text that is not empty")
        return None
    return content if isinstance(content, str) else None


def _to_calls(field: str, message: Message, report: Report) -> list[dict[str, Any]] | None:
    calls = message.get("tool_calls", [])
    if "function_call" in message:  # the form before tools
        calls = [message["function_call"]]
    if not isinstance(calls, list):
        report("bad_tools", f"{field}.tool_calls", f"{type(calls).__name__} in place of a list", "give a list of calls")
        return None
    made = []
    for i, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, dict) else {}
        arguments = parse_json(function.get("arguments") or {}) if isinstance(function, dict) else None
        if not isinstance(arguments, dict) or not isinstance(function.get("name"), str):
            todo = 'write {"type": "function", "function": {"name": "...", "arguments": "{...}"}}'
            report("bad_tools", f"{field}.tool_calls[{i}]", "no call of a function with JSON arguments", todo)
            return None
        kept = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        made.append({**kept, "type": "function", "function": {"name": function["name"], "arguments": arguments}})
    return made
