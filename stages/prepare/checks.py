"""Check single rows: collect every finding about a row and build its canonical record."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from stages.core.config.base import Action
from stages.core.config.data import ChecksConfig
from stages.core.data.records import Message, Record
from stages.core.secret_formats import find_fields_with_secrets, mask_secrets
from stages.prepare.findings import Finding
from stages.prepare.messages import Report, has_calls, to_message, to_tools
from stages.prepare.raw_examples import RawExample, Turn, as_boolean
from stages.prepare.sources.rows import Row

# Codes that may be warnings, because the row still makes a valid record.
SOFT = {name for name, field in ChecksConfig.model_fields.items() if field.annotation == Action}
# The roles that may follow each role. "calls" is an assistant message with tool calls.
NEXT = {
    "user": {"assistant", "calls"},
    "assistant": {"user"},
}
NEXT |= {"calls": {"tool"}, "tool": {"tool", "assistant", "calls"}}
LONG_TARGET = 100  # characters
Said = tuple[Turn, Message | None]


def check_sample(
    row: Row, sample: RawExample, meta: dict[str, Any]
) -> tuple[Record | None, list[Finding]]:
    """Check a row and build its record.

    Args:
        row: The row, which gives the findings their file and line.
        sample: The row as its format reads it.
        meta: The metadata to keep with the record.

    Returns:
        The record, or None if the findings rule one out, and all findings about the row.
    """
    findings: list[Finding] = []

    def report(code: str, field: str, found: str, todo: str) -> None:
        findings.append(Finding(code, row.file, row.line, field, found, todo))

    for problem in sample.problems:
        report(*problem)
    if not sample.turns:
        what = "no list of messages" if sample.turns is None else "an empty list of messages"
        report("missing_messages_list", sample.where, what, "give a non-empty list of messages")
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
    texts = [
        (turn.at(key), value)
        for turn, message in [*said, *rejected]
        for key, value in (message or {}).items()
    ]
    findings += find_secrets(row, [*texts, (sample.tools_at, tools)])
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
    except TypeError as error:  # orjson refuses types that JSON lacks, and values nested too deeply
        report("bad_tools", sample.tools_at, f"not a JSON value: {error}", "remove it")
        return None, findings


def _check_answers(
    sample: RawExample, said: Sequence[Said], rejected: Sequence[Said], report: Report
) -> None:
    """Check that there is an answer, and exactly one on each side of a comparison."""
    if (
        sample.kind != "prompt"
        and sample.turns
        and "assistant" not in [turn.role for turn, _ in said]
    ):
        todo = "add the answer that the model should learn"
        report("example_missing_assistant_message", sample.where, "no assistant message", todo)
    compared = [(sample.answers[0], said[len(sample.turns or []) :]), (sample.answers[1], rejected)]
    for name, turns in compared[: {"preference": 2, "unpaired": 1}.get(sample.kind, 0)]:
        if [turn.role for turn, _ in turns] != ["assistant"]:
            found = (
                f"{len(turns)} messages"
                if len(turns) != 1
                else f"a message with role {turns[0][0].role}"
            )
            report("bad_completion", name, found, "give exactly one assistant message")
    for turn, message in rejected:
        if message and _is_empty(turn, message):
            report("empty_target", turn.at("content"), "an empty answer", "write the answer")
    if sample.kind == "unpaired" and not isinstance(sample.desirable, bool):
        report("bad_completion", "label", "not a boolean label", "use true or false")


def _cut_untrained(said: Sequence[Said]) -> list[Said]:
    """Drop the turns after the last trained answer, which becomes the target."""
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


def _check_target(sample: RawExample, said: Sequence[Said], report: Report) -> None:
    turn, last = said[-1]
    if sample.kind == "prompt":
        if turn.role == "assistant":
            report(
                "bad_completion",
                turn.field,
                "the prompt ends with an answer",
                "remove the answer",
            )
    elif turn.role != "assistant":
        if turn.role is None or "assistant" not in [turn.role for turn, _ in said]:
            return  # other checks report an unknown role and a missing answer
        todo = "end the row with a non-empty assistant message"
        report("empty_target", turn.field, f"the last message has role {turn.role}", todo)
    elif last and _is_empty(turn, last):
        report("empty_target", turn.at("content"), "an empty target", "write the answer")
    elif _is_light(last):
        report(
            "no_trained_token",
            turn.at("weight"),
            "every answer has weight 0",
            "give at least one answer weight 1",
        )
    elif (
        last
        and len(said) > 1
        and said[-2][1]
        and _stands_in(last["content"], said[-2][1]["content"])
    ):
        todo = "make sure that the question does not give the answer away"
        report("target_in_prompt", turn.at("content"), "the question contains the target", todo)


def _is_empty(turn: Turn, message: Message) -> bool:
    return not message["content"].strip() and not has_calls(turn.message)


def _stands_in(target: str, question: str) -> bool:
    """Tell whether the question contains the target, of two characters or more, as whole words.

    A long target need not stand there as whole words, because to look at every place where it
    stands can take time that is quadratic in its length.
    """
    if len(target) < 2 or target not in question:  # noqa: PLR2004
        return False
    if len(target) > LONG_TARGET:
        return True
    return re.search(rf"(?<!\w){re.escape(target)}(?!\w)", question) is not None


def _check_flow(sample: RawExample, said: Sequence[Said], report: Report) -> None:
    """Check that there is a user message and that the roles alternate."""
    if sample.kind == "text":
        return
    roles = [
        "calls" if message and message.get("tool_calls") else turn.role for turn, message in said
    ]
    if "user" not in roles and None not in roles:
        report("missing_user", sample.where, "no user message", "add the question")
    talk = [role for role in roles if role != "system"]
    wrong = any(a and b and b not in NEXT[a] for a, b in pairwise(talk)) or (
        talk and talk[0] == "tool"
    )
    if wrong or "system" in roles[1:]:
        found = " ".join(role or "unknown" for role in roles)
        report("turn_order", sample.where, found, "alternate user and assistant messages")


def _check_calls(
    sample: RawExample, said: Sequence[Said], tools: list[dict[str, Any]], report: Report
) -> None:
    """Check that every called tool is defined, and that parallel calls are allowed."""
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
                    f"{mask_secrets(name):.60} is not defined in {sample.tools_at}",
                    "define it there",
                )
        if len(called) > 1 and as_boolean(sample.parallel) is False:
            found = f"{len(called)} calls, but parallel_tool_calls is false"
            report("bad_tools", field, found, "split the message, or allow parallel calls")


def find_secrets(row: Row, values: Iterable[tuple[str, Any]]) -> list[Finding]:
    """Look at every string in the values of a row.

    Args:
        row: The row, which gives the findings their file and line.
        values: Each value with the field that holds it.
    """
    todo = "remove it and revoke it, because a model can repeat its training data"
    return [
        Finding("secret", row.file, row.line, field, ", ".join(found), todo)
        for field, found in find_fields_with_secrets(values).items()
    ]
