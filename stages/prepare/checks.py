"""Whether a row is sound: every finding about it, never only the first, and its canonical record."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from stages.core.config.base import Action
from stages.core.config.data import ChecksConfig
from stages.core.data.records import Message, Record
from stages.prepare.containers import Row
from stages.prepare.findings import Finding
from stages.prepare.leaked import kinds_of_secrets, may_hold_a_secret
from stages.prepare.messages import Report, has_calls, to_message, to_tools
from stages.prepare.samples import Sample, Turn, as_boolean

# Codes that may be a warning, because a record is possible all the same.
SOFT = {name for name, field in ChecksConfig.model_fields.items() if field.annotation == Action}
NEXT = {
    "user": {"assistant", "calls"},
    "assistant": {"user"},
}  # who may speak after whom; "calls": with tool calls
NEXT |= {"calls": {"tool"}, "tool": {"tool", "assistant", "calls"}}
Said = tuple[Turn, Message | None]


def check_sample(
    row: Row, sample: Sample, meta: dict[str, Any]
) -> tuple[Record | None, list[Finding]]:
    """The record of a row, where there can be one, and all findings about the row.

    Args:
        row: for its file and line.
        sample: what its format makes of it.
        meta: what stays with the record.
    """
    findings: list[Finding] = []

    def report(code: str, field: str, found: str, todo: str) -> None:
        if may_hold_a_secret(found) and kinds_of_secrets(found):
            found = "a value that holds a secret"
        findings.append(Finding(code, row.file, row.line, field, found, todo))

    for problem in sample.problems:
        report(*problem)
    if not sample.turns:
        what = "no list of messages" if sample.turns is None else "an empty list of messages"
        report(
            "missing_messages_list", sample.where, what, "give a list of messages that is not empty"
        )
    said = [
        (turn, to_message(turn, report)) for turn in [*(sample.turns or []), *sample.completion]
    ]
    rejected = [(turn, to_message(turn, report)) for turn in sample.rejected]
    tools = to_tools(sample.tools, sample.tools_at, report)
    kept = _cut_untrained(said)
    _check_answers(sample, said, rejected, report)
    if sample.turns:
        _check_target(sample, kept, report)
        _check_flow(sample, kept, report)
    _check_calls(sample, [*kept, *rejected], tools, report)
    _check_secrets([*said, *rejected], report)
    if {finding.code for finding in findings} - SOFT:
        return None, findings
    messages = [message for _, message in kept if message]
    content = {
        "tools": tools,
        "rejected": rejected[0][1] if rejected else None,
        "desirable": sample.desirable,
    }
    try:
        return Record.of(messages, meta=meta, kind=sample.kind, **content), findings
    except TypeError as error:  # orjson: values that JSON does not know, or too deep
        report("bad_tools", sample.tools_at, f"what JSON cannot hold: {error}", "leave it out")
        return None, findings


def _check_answers(
    sample: Sample, said: Sequence[Said], rejected: Sequence[Said], report: Report
) -> None:
    """Preference methods compare one answer with one."""
    if (
        sample.kind != "prompt"
        and sample.turns
        and "assistant" not in [turn.role for turn, _ in said]
    ):
        todo = "give the answer that the model should learn"
        report(
            "example_missing_assistant_message", sample.where, "no message of the assistant", todo
        )
    compared = [(sample.answers[0], said[len(sample.turns or []) :]), (sample.answers[1], rejected)]
    for name, turns in compared[: {"preference": 2, "unpaired": 1}.get(sample.kind, 0)]:
        if [turn.role for turn, _ in turns] != ["assistant"]:
            found = (
                f"{len(turns)} messages"
                if len(turns) != 1
                else f"a message of the {turns[0][0].role}"
            )
            report("bad_completion", name, found, "give one message of the assistant")
    for turn, message in rejected:
        if message and _is_empty(turn, message):
            report("empty_target", turn.at("content"), "an empty answer", "give the answer")
    if sample.kind == "unpaired" and not isinstance(sample.desirable, bool):
        report("bad_completion", "label", "neither true nor false", "use true or false")


def _cut_untrained(said: Sequence[Said]) -> list[Said]:
    """What comes after the last trained answer teaches nothing, and that answer is the target."""
    if not said or not said[-1][1] or said[-1][1].get("weight") != 0:
        return list(said)
    trained = [
        i
        for i, (turn, message) in enumerate(said)
        if turn.role == "assistant" and not _is_light(message)
    ]
    return list(said[: trained[-1] + 1] if trained else said)


def _is_light(message: Message | None) -> bool:
    return message is not None and message.get("weight") == 0


def _check_target(sample: Sample, said: Sequence[Said], report: Report) -> None:
    turn, last = said[-1]
    if sample.kind == "prompt":
        if turn.role == "assistant":
            report(
                "bad_completion",
                turn.field,
                "a prompt that ends with an answer",
                "leave the answer out",
            )
    elif turn.role != "assistant":
        if turn.role is None or "assistant" not in [turn.role for turn, _ in said]:
            return  # which is a finding of its own
        todo = "let the last message be the assistant's and not empty"
        report("empty_target", turn.field, f"the last message is the {turn.role}'s", todo)
    elif last and _is_empty(turn, last):
        report("empty_target", turn.at("content"), "an empty target", "give the answer")
    elif _is_light(last):
        report(
            "no_trained_token",
            turn.at("weight"),
            "the weight of every answer is 0",
            "give one the weight 1",
        )
    elif (
        last
        and len(said) > 1
        and said[-2][1]
        and _stands_in(last["content"], said[-2][1]["content"])
    ):
        todo = "make sure that the answer is not given away"
        report("target_in_prompt", turn.at("content"), "the target stands in the question", todo)


def _is_empty(turn: Turn, message: Message) -> bool:
    return not message["content"].strip() and not has_calls(turn.message)


def _stands_in(target: str, question: str) -> bool:
    """Whether a text of more than a letter stands in another one as whole words."""
    if len(target) < 2 or target not in question:  # noqa: PLR2004
        return False
    return re.search(rf"(?<!\w){re.escape(target)}(?!\w)", question) is not None


def _check_flow(sample: Sample, said: Sequence[Said], report: Report) -> None:
    """Who speaks after whom."""
    if sample.kind == "text":
        return
    roles = [
        "calls" if message and message.get("tool_calls") else turn.role for turn, message in said
    ]
    if "user" not in roles and None not in roles:
        report("missing_user", sample.where, "no message of the user", "add the question")
    talk = [role for role in roles if role != "system"]
    wrong = any(a and b and b not in NEXT[a] for a, b in pairwise(talk)) or (
        talk and talk[0] == "tool"
    )
    if wrong or "system" in roles[1:]:
        found = " ".join(role or "unknown" for role in roles)
        report("turn_order", sample.where, found, "let user and assistant take turns")


def _check_calls(
    sample: Sample, said: Sequence[Said], tools: list[dict[str, Any]], report: Report
) -> None:
    """Every call has its definition."""
    known = {tool["function"]["name"] for tool in tools}
    for turn, message in said:
        called = [call["function"]["name"] for call in (message or {}).get("tool_calls", [])]
        field = (
            turn.at("function_call" if turn.message.get("function_call") else "tool_calls")
            if called
            else ""
        )
        for name in dict.fromkeys(called):
            if name not in known:
                report(
                    "undefined_tool",
                    field,
                    f"{name:.60} is not in {sample.tools_at}",
                    "define it there",
                )
        if len(called) > 1 and as_boolean(sample.parallel) is False:
            found = f"{len(called)} calls, but parallel_tool_calls is false"
            report("bad_tools", field, found, "split the message, or allow parallel calls")


def _check_secrets(said: Sequence[Said], report: Report) -> None:
    for turn, message in said:
        for key in ("content", "tool_calls"):
            text = str((message or {}).get(key, ""))
            if may_hold_a_secret(text) and (kinds := kinds_of_secrets(text)):
                todo = "remove it from the data and revoke it: a model repeats what it saw"
                report("secret", turn.at(key), ", ".join(kinds), todo)
