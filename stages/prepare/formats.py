"""The forms that rows come in, each turned into the turns of a chat; whether they are sound is for the checks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import orjson

from stages.core.records import Kind

Value = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """What stands for a message, and where in the row."""

    field: str
    message: Any
    own: bool = True
    """Whether the message is an object of the row; else it was made from the column `field`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A row before its checks."""

    kind: Kind
    turns: list[Turn] | None
    """Prompt and target; None where there is no list of messages."""
    completion: list[Turn] = field(default_factory=list)
    """What stands for the target where the format names it; it comes after `turns`."""
    rejected: list[Turn] = field(default_factory=list)
    tools: Any = None
    parallel: Any = None
    """`parallel_tool_calls`."""
    desirable: Any = None
    label: Any = None


def parse_json(value: Any) -> Any:
    """The list or object that a text holds, for tables keep them as JSON text; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _chat(value: Value) -> Sample:
    tools = value.get("tools") or value.get("functions")
    return Sample("chat", _turns("messages", value), tools=tools, parallel=value.get("parallel_tool_calls"))


def _openai_preference(value: Value) -> Sample:
    asked = value["input"] if isinstance(value["input"], dict) else {}
    return Sample(
        "preference",
        _turns("messages", asked, "input."),
        _turns("preferred_output", value) or [],
        _turns("non_preferred_output", value) or [],
        tools=asked.get("tools"),
        parallel=asked.get("parallel_tool_calls"),
    )


SHAREGPT = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "function_call": "assistant"}
SHAREGPT |= {"observation": "tool", "function_response": "tool"}  # the others have their own names


def _sharegpt(value: Value) -> Sample:
    turns = _turns("conversations", value)
    if turns is not None:
        turns = [Turn(turn.field, _sharegpt_message(turn.message)) for turn in turns]
        turns = [*_made("system", "system", value.get("system")), *turns] if value.get("system") else turns
    return Sample("chat", turns, tools=value.get("tools"))


def _sharegpt_message(turn: Any) -> Any:
    if not isinstance(turn, dict) or "from" not in turn:
        return turn
    others = {key: kept for key, kept in turn.items() if key not in {"from", "value"}}
    role = SHAREGPT.get(str(turn["from"]), turn["from"])
    if turn["from"] == "function_call":
        call = parse_json(turn.get("value"))
        return {"role": role, "tool_calls": call if isinstance(call, list) else [call], **others}
    return {"role": role, "content": turn.get("value"), **others}


def _evals(value: Value) -> Sample:
    ideal = value["ideal"]
    first = ideal[0] if isinstance(ideal, list) and ideal else ideal
    return Sample("chat", _prompt("input", value), _made("ideal", "assistant", first))


def _preference(value: Value) -> Sample:
    turns = _prompt("prompt", value) if "prompt" in value else []
    better, worse = value["chosen"], value["rejected"]
    if not turns and isinstance(better, list) and isinstance(worse, list):  # TRL: an implicit prompt is what they share
        shared = _shared(better, worse)
        turns = [Turn(f"chosen[{i}]", message) for i, message in enumerate(better[:shared])]
        chosen = [Turn(f"chosen[{i}]", message) for i, message in enumerate(better) if i >= shared]
        return Sample(
            "preference",
            turns,
            chosen,
            [Turn(f"rejected[{i}]", message) for i, message in enumerate(worse) if i >= shared],
            tools=value.get("tools"),
        )
    if not turns and isinstance(better, str) and isinstance(worse, str):
        prompt = better[: _shared(better, worse)].rpartition(" ")[0]
        turns, better, worse = _made("chosen", "user", prompt), better[len(prompt) :], worse[len(prompt) :]
    chosen, rejected = _completion("chosen", better), _completion("rejected", worse)
    return Sample("preference", turns, chosen, rejected, tools=value.get("tools"))


def _shared(a: Any, b: Any) -> int:
    """How many items two sequences begin with together."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _prompt_completion(value: Value) -> Sample:
    completion = _completion("completion", value["completion"])
    return Sample("chat", _prompt("prompt", value), completion, tools=value.get("tools"))


def _unpaired(value: Value) -> Sample:
    completion, desirable = _completion("completion", value["completion"]), value["label"]
    if isinstance(desirable, str):  # a table has no booleans
        desirable = {"true": True, "1": True, "false": False, "0": False}.get(desirable.lower(), desirable)
    return Sample("unpaired", _prompt("prompt", value), completion, tools=value.get("tools"), desirable=desirable)


def _instruction(value: Value) -> Sample:
    parts = [text for text in (value["instruction"], value.get("input")) if text]
    question = "\n\n".join(parts) if all(isinstance(text, str) for text in parts) else None
    system = _made("system", "system", value["system"]) if value.get("system") else []
    return Sample(
        "chat", system + _made("instruction", "user", question), _made("output", "assistant", value["output"])
    )


def _labelled(value: Value) -> Sample:
    label = value["label"]
    target = label if label is None else str(label)
    return Sample("chat", _made("text", "user", value["text"]), _made("label", "assistant", target), label=target)


def _ask(value: Value) -> Sample:
    return Sample("prompt", _prompt("prompt", value), tools=value.get("tools"))


def _text(value: Value) -> Sample:
    return Sample("text", _made("text", "assistant", value["text"]))


def _turns(column: str, value: Value, prefix: str = "") -> list[Turn] | None:
    messages = parse_json(value.get(column))
    if not isinstance(messages, list):
        return None
    return [Turn(f"{prefix}{column}[{i}]", message) for i, message in enumerate(messages)]


def _made(column: str, role: str, content: Any) -> list[Turn]:
    return [Turn(column, {"role": role, "content": content}, own=False)]


def _prompt(column: str, value: Value) -> list[Turn]:
    return _turns(column, value) or _made(column, "user", value[column])


def _completion(column: str, content: Any) -> list[Turn]:
    return _turns(column, {column: content}) or _made(column, "assistant", content)


@dataclass(frozen=True, slots=True)
class Format:
    """The columns that a row must have, and how it becomes a sample."""

    columns: tuple[str, ...]
    convert: Callable[[Value], Sample]


FORMATS: dict[str, Format] = {  # from the most telling columns to the least
    "chat": Format(("messages",), _chat),
    "openai-preference": Format(("input", "preferred_output", "non_preferred_output"), _openai_preference),
    "sharegpt": Format(("conversations",), _sharegpt),
    "evals": Format(("input", "ideal"), _evals),
    "preference": Format(("chosen", "rejected"), _preference),
    "unpaired-preference": Format(("prompt", "completion", "label"), _unpaired),
    "prompt-completion": Format(("prompt", "completion"), _prompt_completion),
    "instruction": Format(("instruction", "output"), _instruction),
    "labelled": Format(("text", "label"), _labelled),
    "prompt": Format(("prompt",), _ask),
    "text": Format(("text",), _text),
}


def detect(value: Value) -> str | None:
    """The format whose columns a row has, or None."""
    for name, form in FORMATS.items():
        if set(form.columns) <= set(value) and (name != "unpaired-preference" or isinstance(value["label"], bool)):
            return name
    return None


def rename(value: Value, columns: dict[str, str]) -> Value:
    """The row under the format's own column names."""
    return {**value, **{ours: value[theirs] for ours, theirs in columns.items() if theirs in value}}
