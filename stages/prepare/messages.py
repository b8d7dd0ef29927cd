"""Check single messages, their contents and their tools, and convert them to canonical form.

The codes and their meanings come from OpenAI's cookbook ("Data preparation and analysis for chat
model fine-tuning"), with one correction: the roles developer and tool and tool calls are valid.
"""

from collections.abc import Callable
from typing import Any

from stages.core.data.records import Message
from stages.core.secret_formats import mask_secrets
from stages.prepare.raw_examples import ROLES, Turn, parse_json
from stages.prepare.sources.json_values import Unusable, find_foreign

CALLS = {"tool_calls", "function_call"}
TEXTS = ("name", "tool_call_id", "reasoning_content")
KEYS = {"role", "content", "weight", *TEXTS, *CALLS}
# The types of a part of text in OpenAI's APIs, and the keys that such a part may have.
TEXT_PARTS = {None, "text", "input_text", "output_text"}
PART_KEYS = {"type", "text", "annotations", "cache_control"}
MISSING = {"nan", "NaN", "NaT", "<NA>"}  # what pandas writes as text for a missing value
DEFINITION = 'write {"type": "function", "function": {"name": "...", "parameters": {...}}}'
SHOWN = 50  # characters of a value in a finding
SEARCHED = 2_000  # characters of a value that are searched for secrets before it is cut
CALL = 'write {"type": "function", "function": {"name": "...", "arguments": "{...}"}}'

Report = Callable[[str, str, str, str], None]
"""A callback that takes the code, the field, what was found and what to do."""


def shown(value: Any) -> str:
    """Describe a value in a few characters, without its secrets, however large or deep it is."""
    if isinstance(value, Unusable):
        return value.what
    if isinstance(value, dict | list | tuple):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, str):
        text = mask_secrets(value[:SEARCHED])
        return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}…"
    return "nothing" if value is None else f"{value!r:.{SHOWN}}"


def to_message(turn: Turn, report: Report) -> Message | None:
    """Convert a turn to a canonical message, or report why it is unusable and return None."""
    given = turn.message
    if not isinstance(given, dict):
        what = f"{shown(given)} instead of a message"
        report("message_missing_key", turn.field, what, 'write {"role": "...", "content": "..."}')
        return None
    # Parquet fills missing keys with null, so only role and content count as given when null.
    message = {
        key: value
        for key, value in given.items()
        if value is not None or key in {"role", "content"}
    }
    missing = {"role", "content"} - set(message) - ({"content"} if has_calls(message) else set())
    if missing:
        report(
            "message_missing_key",
            turn.field,
            f"no {' and no '.join(sorted(missing))}",
            "add what is missing",
        )
    unknown = sorted(map(str, set(message) - KEYS))
    if unknown:
        report(
            "message_unrecognized_key",
            turn.field,
            f"unknown key: {shown(', '.join(unknown))}",
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
    for key in TEXTS:
        if not isinstance(text := message.get(key, ""), str):
            what = f"{shown(text)} instead of text"
            report("missing_content", turn.at(key), what, "write it as text, or remove it")
    if role is None or content is None:
        return None
    made: Message = {"role": role, "content": content}
    made |= {key: message[key] for key in TEXTS if key in message}
    made |= {"tool_calls": calls} if calls else {}
    return made | ({"weight": int(weight)} if weight is not None and role == "assistant" else {})


def has_calls(message: Any) -> bool:
    """Tell whether a raw message has function calls, valid or not."""
    return isinstance(message, dict) and any(message.get(key) for key in CALLS)


def to_tools(tools: Any, field: str, report: Report) -> list[dict[str, Any]]:
    """Convert tools to OpenAI's format.

    Args:
        tools: A list of tools or of bare functions, or its JSON text.
        field: The field of the row that holds the tools.
        report: Receives the findings.
    """
    tools = parse_json(tools)
    if not isinstance(tools, list):
        if tools:
            report(
                "bad_tools",
                field,
                f"{shown(tools)} instead of a list",
                f"use a list: {DEFINITION}",
            )
        return []
    made = []
    for i, tool in enumerate(tools):
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        named = isinstance(function, dict) and isinstance(function.get("name"), str)
        if not named or not isinstance(function.get("parameters") or {}, dict):
            report("bad_tools", f"{field}[{i}]", "not a function definition", DEFINITION)
        elif foreign := find_foreign(function):
            report("bad_tools", f"{field}[{i}]", foreign, "write it as text")
        else:
            made.append({"type": "function", "function": function})
    return made


def _to_content(turn: Turn, message: Message, report: Report) -> str | None:
    content = message.get("content")
    field = turn.at("content")
    if isinstance(content, list) and content and turn.own:
        if others := sorted({other for part in content if (other := _describe_part(part))}):
            what = f"a part {', '.join(others)}"
            report("unsupported_content", field, what, "keep only the text parts")
            return None
        content = "".join(part["text"] for part in content)
    if content is None and has_calls(message):
        return ""
    if not isinstance(content, str):
        report(
            "missing_content",
            field,
            f"{shown(content)} instead of text",
            "use a non-empty text",
        )
        return None
    # A tool result may be empty. The checks of the whole row report a target of white space alone.
    empty = not content if turn.role == "assistant" else not content.strip()
    if empty and turn.role != "tool" and not has_calls(message):
        report("missing_content", field, "an empty text", "use a non-empty text")
    if turn.role != "tool" and content.strip() in MISSING:
        what = f"{content.strip()!r}, which pandas writes for a missing value"
        todo = "write the text; if this is one, set checks.missing_value=warn"
        report("missing_value", field, what, todo)
    return content


def _describe_part(part: Any) -> str:
    """Describe a part of a content that is not text alone, or return an empty text if it is."""
    if not isinstance(part, dict):
        return f"of type {type(part).__name__!r}"
    kind = part.get("type")
    if isinstance(kind, dict | list) or kind not in TEXT_PARTS:
        return f"of type {shown(kind)}"
    if not isinstance(part.get("text"), str):
        return f"with {shown(part.get('text'))} as its text"
    other = sorted(str(key) for key in part.keys() - PART_KEYS if part[key] is not None)
    return f"of text that also has {shown(', '.join(other))}" if other else ""


def _to_calls(turn: Turn, message: Message, report: Report) -> list[dict[str, Any]]:
    calls = message.get("tool_calls", [])
    field = turn.at("tool_calls")
    if message.get("function_call"):  # OpenAI's format before `tool_calls`
        calls = [message["function_call"]]
        field = turn.at("function_call")
    if not isinstance(calls, list):
        report("bad_tools", field, f"{shown(calls)} instead of a list", "use a list of calls")
        return []
    made = []
    for i, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, dict) else None
        arguments = (
            parse_json(function.get("arguments") or {}) if isinstance(function, dict) else None
        )
        at = f"{field}[{i}]" if field.endswith(".tool_calls") else field
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            what = shown(call) if isinstance(call, Unusable) else "not a function call"
            report("bad_tools", at, what, CALL)
        elif not isinstance(arguments, dict):
            report("bad_tools", at, f"{shown(arguments)} instead of arguments", CALL)
        elif foreign := find_foreign(arguments):
            report("bad_tools", at, foreign, "write it as text")
        elif not isinstance(call.get("id") or "", str):
            report("bad_tools", at, f"{shown(call['id'])} instead of an id", "write it as text")
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
