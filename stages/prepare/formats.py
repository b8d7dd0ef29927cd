"""Convert rows of the known formats to chat turns, which the checks validate later."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from stages.prepare.bio_tags import COLUMNS, read_tagged
from stages.prepare.raw_examples import (
    RawExample,
    Turn,
    as_boolean,
    as_text,
    parse_json,
    parse_messages,
)
from stages.prepare.sources.json_values import Unusable

Value = dict[str, Any]


def _chat(value: Value) -> RawExample:
    tools_at = "tools" if value.get("tools") else "functions"  # OpenAI's format before `tools`
    parallel = value.get("parallel_tool_calls")
    turns = _turns("messages", value)
    return RawExample(
        "chat", "messages", turns, tools=value.get(tools_at), tools_at=tools_at, parallel=parallel
    )


def _openai_preference(value: Value) -> RawExample:
    asked = parse_json(value["input"])
    asked = asked if isinstance(asked, dict) else {}
    return RawExample(
        "preference",
        "input.messages",
        _turns("messages", asked, "input."),
        _turns("preferred_output", value) or [],
        _turns("non_preferred_output", value) or [],
        ("preferred_output", "non_preferred_output"),
        tools=asked.get("tools"),
        tools_at="input.tools",
        parallel=asked.get("parallel_tool_calls"),
    )


SHAREGPT = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
}
# All other roles have the same name in both formats.
SHAREGPT |= {"observation": "tool", "function_response": "tool"}
SHAREGPT_KEYS = {"role": "from", "content": "value", "tool_calls": "value"}


def _sharegpt(value: Value) -> RawExample:
    turns = _turns("conversations", value)
    if turns is not None:
        turns = [
            Turn(turn.field, _sharegpt_message(turn.message), names=SHAREGPT_KEYS) for turn in turns
        ]
        turns = (
            [*_made("system", "system", value.get("system")), *turns]
            if value.get("system")
            else turns
        )
    return RawExample("chat", "conversations", turns, tools=value.get("tools"))


def _sharegpt_message(turn: Any) -> Any:
    if not isinstance(turn, dict) or "from" not in turn:
        return turn
    made = {key: kept for key, kept in turn.items() if key not in {"from", "value"}}
    said = turn["from"]
    made["role"] = SHAREGPT.get(said, said) if isinstance(said, str) else said
    if said == "function_call":
        call = parse_json(turn.get("value"))
        return made | {"tool_calls": call if isinstance(call, list) else [call]}
    return made | ({"content": turn["value"]} if "value" in turn else {})


def _evals(value: Value) -> RawExample:
    ideal = value["ideal"]
    first = ideal[0] if isinstance(ideal, list) and ideal else ideal
    return RawExample("chat", "input", _prompt("input", value), _made("ideal", "assistant", first))


def _preference(value: Value) -> RawExample:
    better = parse_messages(value["chosen"])
    worse = parse_messages(value["rejected"])
    if "prompt" in value:
        turns = _prompt("prompt", value)
        where = "prompt"
        start = 0
    elif isinstance(better, list) and isinstance(worse, list):
        # As in TRL, the implicit prompt is the beginning that both answers share.
        where = "chosen"
        start = _shared(better, worse)
        turns = [Turn(f"chosen[{i}]", message) for i, message in enumerate(better[:start])]
    elif isinstance(better, str) and isinstance(worse, str):
        prompt = better[: _shared(better, worse)].rpartition(" ")[0]
        turns = _made("chosen", "user", prompt)
        where = "chosen"
        start = len(prompt)
        better = better[start:]
        worse = worse[start:]
    else:
        turns = []
        where = "chosen"
        start = 0
    chosen = _completion("chosen", better, start)
    rejected = _completion("rejected", worse, start)
    return RawExample(
        "preference",
        where,
        turns,
        chosen,
        rejected,
        ("chosen", "rejected"),
        tools=value.get("tools"),
    )


def _shared(a: Any, b: Any) -> int:
    """Return the length of the common prefix of two sequences."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _prompt_completion(value: Value) -> RawExample:
    completion = _completion("completion", value["completion"])
    return RawExample(
        "chat", "prompt", _prompt("prompt", value), completion, tools=value.get("tools")
    )


def _unpaired(value: Value) -> RawExample:
    completion = _completion("completion", value["completion"])
    desirable = as_boolean(value["label"])
    prompt = _prompt("prompt", value)
    return RawExample(
        "unpaired", "prompt", prompt, completion, tools=value.get("tools"), desirable=desirable
    )


def _instruction(value: Value) -> RawExample:
    asked = value["instruction"]
    more = value.get("input")
    turns = _made("system", "system", value["system"]) if value.get("system") else []
    if more and not isinstance(more, str):
        turns += _made("input", "user", more)
    else:
        turns += _made(
            "instruction",
            "user",
            f"{asked}\n\n{more}" if more and isinstance(asked, str) else asked,
        )
    return RawExample("chat", "instruction", turns, _made("output", "assistant", value["output"]))


def _labelled(value: Value) -> RawExample:
    target = as_text(value["label"])
    return RawExample(
        "chat",
        "text",
        _made("text", "user", value["text"]),
        _made("label", "assistant", target),
        label=target if isinstance(target, str) else None,
    )


def _tokens(value: Value) -> RawExample:
    text, target, problems = read_tagged(value)
    answer = _made("tokens", "assistant", target)
    return RawExample("chat", "tokens", _made("tokens", "user", text), answer, problems=problems)


def _ask(value: Value) -> RawExample:
    return RawExample("prompt", "prompt", _prompt("prompt", value), tools=value.get("tools"))


def _text(value: Value) -> RawExample:
    return RawExample("text", "text", _made("text", "assistant", value["text"]))


def _turns(column: str, value: Value, prefix: str = "") -> list[Turn] | None:
    messages = parse_json(value.get(column))
    if isinstance(messages, Unusable):
        return [Turn(f"{prefix}{column}", messages)]
    if not isinstance(messages, list):
        return None
    return [Turn(f"{prefix}{column}[{i}]", message) for i, message in enumerate(messages)]


def _made(column: str, role: str, content: Any) -> list[Turn]:
    return [Turn(column, {"role": role, "content": content}, own=False)]


def _prompt(column: str, value: Value) -> list[Turn]:
    messages = parse_messages(value[column])
    if not isinstance(messages, list) or not messages:
        return _made(column, "user", messages)
    return [Turn(f"{column}[{i}]", message) for i, message in enumerate(messages)]


def _completion(column: str, content: Any, start: int = 0) -> list[Turn]:
    messages = parse_messages(content)
    if not isinstance(messages, list):
        return _made(column, "assistant", messages)
    return [Turn(f"{column}[{i}]", message) for i, message in enumerate(messages) if i >= start]


@dataclass(frozen=True, slots=True)
class Format:
    """The required columns of a format, and its conversion to a sample."""

    columns: tuple[str, ...]
    convert: Callable[[Value], RawExample]
    either: tuple[str, ...] = ()
    """Alternative columns, of which a row needs at least one."""

    def fits(self, value: Value) -> bool:
        """Tell whether a row has the required columns."""
        return set(self.columns) <= set(value) and (
            not self.either or bool(set(self.either) & set(value))
        )

    def describe(self) -> str:
        """List the required columns for an error message."""
        return " and ".join([*self.columns, *([" or ".join(self.either)] if self.either else [])])


FORMATS: dict[str, Format] = {  # from the most specific columns to the least
    "chat": Format(("messages",), _chat),
    "openai-preference": Format(
        ("input", "preferred_output", "non_preferred_output"), _openai_preference
    ),
    "sharegpt": Format(("conversations",), _sharegpt),
    "evals": Format(("input", "ideal"), _evals),
    "preference": Format(("chosen", "rejected"), _preference),
    "unpaired-preference": Format(("prompt", "completion", "label"), _unpaired),
    "prompt-completion": Format(("prompt", "completion"), _prompt_completion),
    "instruction": Format(("instruction", "output"), _instruction),
    "tokens": Format(("tokens",), _tokens, COLUMNS),
    "labelled": Format(("text", "label"), _labelled),
    "prompt": Format(("prompt",), _ask),
    "text": Format(("text",), _text),
}


def detect(value: Value) -> str | None:
    """Return the name of the first format whose columns a row has, or None."""
    for name, form in FORMATS.items():
        if form.fits(value) and (name != "unpaired-preference" or isinstance(value["label"], bool)):
            return name
    return None


def rename(value: Value, columns: dict[str, str]) -> Value:
    """Rename the columns of a row to those of the format.

    Args:
        value: The row.
        columns: The format's column names, each with the name that the row uses.
    """
    return {**value, **{ours: value[theirs] for ours, theirs in columns.items() if theirs in value}}
