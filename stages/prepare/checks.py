"""Whether a row's messages are sound: every finding of a row, never only the first.

The first seven codes and what they count are those of OpenAI's cookbook ("Data preparation and analysis for chat model
fine-tuning"), but for its mistakes: the developer's role is known and a row that is not JSON does not end the check.
"""

from itertools import pairwise
from typing import Any

from stages.core.records import Message, Record
from stages.prepare.findings import Finding
from stages.prepare.source import Row

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
TOOL_ROLES = {"tool", "function"}
TOOL_KEYS = {"tool_calls", "function_call", "tool_call_id"}
KEYS = {"role", "content", "name", "weight", *TOOL_KEYS}


def check_row(row: Row, messages: Any) -> list[Finding]:
    """All findings about one row.

    Args:
        row: for its file and line.
        messages: what its format gives for messages.
    """

    def finding(code: str, field: str, found: str, todo: str) -> Finding:
        return Finding(code, row.file, row.line, field, found, todo)

    if not isinstance(messages, list) or not messages:
        return [finding("missing_messages_list", "messages", "no list of messages", "give one that is not empty")]
    found = [f for i, message in enumerate(messages) for f in _check_message(finding, f"messages[{i}]", message)]
    roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
    if "assistant" not in roles:
        todo = "give the answer that the model should learn"
        found.append(finding("example_missing_assistant_message", "messages", "no message of the assistant", todo))
    return found or _check_turns(finding, roles, messages)


def _check_message(finding: Any, field: str, message: Any) -> list[Finding]:
    if not isinstance(message, dict):
        what = f"{type(message).__name__} in place of a message"
        return [finding("message_missing_key", field, what, 'write {"role": "...", "content": "..."}')]
    found = []
    missing = {"role", "content"} - set(message) - ({"content"} if TOOL_KEYS & set(message) else set())
    if missing:
        found.append(finding("message_missing_key", field, f"no {' and no '.join(sorted(missing))}", "add it"))
    unknown = sorted(set(message) - KEYS)
    if unknown:
        found.append(finding("message_unrecognized_key", field, f"unknown {', '.join(unknown)}", "remove it"))
    role, content = str(message.get("role")), message.get("content")
    if role in TOOL_ROLES or TOOL_KEYS & {key for key, value in message.items() if value}:
        found.append(
            finding("unsupported_tools", field, "a tool call", "leave such rows out: they are not trained on yet")
        )
    elif role not in ROLES:
        found.append(finding("unrecognized_role", f"{field}.role", f"role {role}", f"use one of {', '.join(ROLES)}"))
    elif not isinstance(content, str) or (not content and role != "assistant"):
        found.append(finding("missing_content", f"{field}.content", f"{content!r}", "give a text that is not empty"))
    if message.get("weight") not in (None, 0, 1):
        found.append(finding("bad_weight", f"{field}.weight", repr(message["weight"]), "use 0 or 1"))
    return found


def _check_turns(finding: Any, roles: list[Any], messages: list[dict[str, Any]]) -> list[Finding]:
    """What can be said of a row whose messages are sound one by one."""
    found, last = [], messages[-1]
    turns = [ROLES[role] for role in roles]
    if turns[-1] != "assistant" or not last["content"].strip():
        todo = "let the last message be the assistant's and not empty"
        found.append(finding("empty_target", f"messages[{len(messages) - 1}]", "there is no target", todo))
    elif last.get("weight") == 0:
        found.append(
            finding("no_trained_token", f"messages[{len(messages) - 1}].weight", "the target's weight is 0", "use 1")
        )
    if "user" not in turns[:-1]:
        found.append(finding("no_question", "messages", "no message of the user before the target", "add the question"))
    elif not found and len(last["content"]) > 1 and last["content"] in messages[-2]["content"]:
        todo = "make sure that the answer is not given away"
        found.append(finding("target_in_prompt", "messages", "the target stands in the question", todo))
    talk = [turn for turn in turns if turn != "system"]
    if any(a == b for a, b in pairwise(talk)) or "system" in turns[1:]:
        found.append(finding("turn_order", "messages", " ".join(turns), "let user and assistant take turns"))
    return found


def to_record(messages: list[dict[str, Any]]) -> Record:
    """The canonical record of sound messages."""
    kept: list[Message] = [{"role": ROLES[m["role"]], "content": m["content"]} for m in messages]
    return Record.of(kept)
