"""Whether a row is sound: every finding about it, never only the first, and its canonical record."""

from itertools import pairwise
from typing import Any

from stages.core.config import Action, ChecksConfig
from stages.core.records import Message, Record
from stages.prepare.containers import Row
from stages.prepare.findings import Finding
from stages.prepare.formats import Sample, Turn
from stages.prepare.messages import to_message, to_tools

# Codes that may be a warning, because a record is possible all the same.
SOFT = {name for name, field in ChecksConfig.model_fields.items() if field.annotation == Action}
NEXT = {"user": {"assistant", "calls"}, "assistant": {"user"}}  # who may speak after whom; "calls": with tool calls
NEXT |= {"calls": {"tool"}, "tool": {"tool", "assistant", "calls"}}


def check_sample(row: Row, sample: Sample, meta: dict[str, Any]) -> tuple[Record | None, list[Finding]]:
    """The record of a row, where there can be one, and all findings about the row.

    Args:
        row: for its file and line.
        sample: what its format makes of it.
        meta: what stays with the record.
    """
    findings: list[Finding] = []

    def report(code: str, field: str, found: str, todo: str) -> None:
        findings.append(Finding(code, row.file, row.line, field, found, todo))

    if not sample.turns:
        what = "messages" if sample.turns is None else "empty"
        report("missing_messages_list", "messages", f"no list of {what}", "give a list of messages that is not empty")
        return None, findings
    turns = [*sample.turns, *sample.completion]
    made = [to_message(turn, report) for turn in turns]
    rejected = [to_message(turn, report) for turn in sample.rejected]
    tools = to_tools(sample.tools, report)
    messages = [message for message in made if message]
    _check_completions(sample, report)
    if sample.kind != "prompt" and "assistant" not in [_role(turn) for turn in turns]:
        todo = "give the answer that the model should learn"
        report("example_missing_assistant_message", "messages", "no message of the assistant", todo)
    if findings and {finding.code for finding in findings} - SOFT:
        return None, findings
    messages = _cut_untrained(messages)
    _check_target(sample, turns, messages, report)
    _check_flow(sample, turns, messages, report)
    _check_calls(sample, messages, tools, report)
    if {finding.code for finding in findings} - SOFT:
        return None, findings
    content = {"tools": tools, "rejected": rejected[0] if rejected else None, "desirable": sample.desirable}
    return Record.of(messages, meta=meta, kind=sample.kind, **content), findings


def _role(turn: Turn) -> Any:
    return turn.message.get("role") if isinstance(turn.message, dict) else None


def _check_completions(sample: Sample, report: Any) -> None:
    """One answer each: what the losses of preference methods compare."""
    if sample.kind == "preference":
        for name, turns in (("chosen", sample.completion), ("rejected", sample.rejected)):
            if [_role(turn) for turn in turns] != ["assistant"]:
                found = f"{len(turns)} messages" if len(turns) != 1 else f"a message of {_role(turns[0])}"
                report("bad_completion", turns[0].field if turns else name, found, "give one message of the assistant")
            elif turns[0].message.get("content") == "" and not turns[0].message.get("tool_calls"):
                report("empty_target", turns[0].field, "it is empty", "give the answer")
    if sample.kind == "unpaired" and not isinstance(sample.desirable, bool):
        report("bad_completion", "label", f"{sample.desirable!r:.60}", "use true or false")


def _cut_untrained(messages: list[Message]) -> list[Message]:
    """What comes after the last trained answer teaches nothing, and that answer is the target."""
    if messages[-1].get("weight") != 0:
        return messages
    trained = [i for i, message in enumerate(messages) if message["role"] == "assistant" and message.get("weight") != 0]
    return messages[: trained[-1] + 1] if trained else messages


def _check_target(sample: Sample, turns: list[Turn], messages: list[Message], report: Any) -> None:
    last, field = messages[-1], turns[len(messages) - 1].field
    if sample.kind == "prompt":
        if last["role"] == "assistant":
            report("bad_completion", field, "a prompt ends with an answer", "leave the answer out")
        return
    if last["role"] != "assistant" or not (last["content"].strip() or last.get("tool_calls")):
        report("empty_target", field, "there is no target", "let the last message be the assistant's and not empty")
    elif last.get("weight") == 0:
        report("no_trained_token", f"{field}.weight", "the weight of every answer is 0", "give one the weight 1")
    elif len(messages) > 1 and len(last["content"]) > 1 and last["content"] in messages[-2]["content"]:
        todo = "make sure that the answer is not given away"
        report("target_in_prompt", field, "the target stands in the question", todo)


def _check_flow(sample: Sample, turns: list[Turn], messages: list[Message], report: Any) -> None:
    """Who speaks after whom."""
    if sample.kind == "text":
        return
    roles = ["calls" if message.get("tool_calls") else message["role"] for message in messages]
    if "user" not in roles:
        report("missing_user", "messages", "no message of the user", "add the question")
    talk = [role for role in roles if role != "system"]
    wrong = any(b not in NEXT[a] for a, b in pairwise(talk)) or (talk and talk[0] == "tool")
    if wrong or "system" in roles[1:]:
        report("turn_order", turns[0].field.split("[")[0], " ".join(roles), "let user and assistant take turns")


def _check_calls(sample: Sample, messages: list[Message], tools: list[dict[str, Any]], report: Any) -> None:
    """Every call has its definition."""
    known = {tool["function"]["name"] for tool in tools}
    for i, message in enumerate(messages):
        called = [call["function"]["name"] for call in message.get("tool_calls", [])]
        for name in dict.fromkeys(called):
            if name not in known:
                report("undefined_tool", f"messages[{i}].tool_calls", f"{name} is not in tools", "define it in tools")
        if len(called) > 1 and sample.parallel is False:
            found = f"{len(called)} calls, but parallel_tool_calls is false"
            report("bad_tools", f"messages[{i}].tool_calls", found, "split the message, or allow parallel calls")
