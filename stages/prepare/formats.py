"""The forms that rows come in, each turned into the turns of a chat; whether they are sound is for the checks."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from stages.prepare.samples import Sample, Turn, as_boolean, parse_json
from stages.prepare.tags import COLUMNS, read_tagged

Value = dict[str, Any]


def _chat(value: Value) -> Sample:
    tools_at = "tools" if value.get("tools") else "functions"  # the form before tools
    parallel = value.get("parallel_tool_calls")
    turns = _turns("messages", value)
    return Sample(
        "chat", "messages", turns, tools=value.get(tools_at), tools_at=tools_at, parallel=parallel
    )


def _openai_preference(value: Value) -> Sample:
    asked = parse_json(value["input"])
    asked = asked if isinstance(asked, dict) else {}
    return Sample(
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
SHAREGPT |= {"observation": "tool", "function_response": "tool"}  # the others have their own names
SHAREGPT_KEYS = {"role": "from", "content": "value", "tool_calls": "value"}


def _sharegpt(value: Value) -> Sample:
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
    return Sample("chat", "conversations", turns, tools=value.get("tools"))


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


def _evals(value: Value) -> Sample:
    ideal = value["ideal"]
    first = ideal[0] if isinstance(ideal, list) and ideal else ideal
    return Sample("chat", "input", _prompt("input", value), _made("ideal", "assistant", first))


def _preference(value: Value) -> Sample:
    better = parse_json(value["chosen"])
    worse = parse_json(value["rejected"])
    if "prompt" in value:
        turns = _prompt("prompt", value)
        where = "prompt"
        start = 0
    elif isinstance(better, list) and isinstance(
        worse, list
    ):  # TRL: an implicit prompt is what they share
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
    return Sample(
        "preference",
        where,
        turns,
        chosen,
        rejected,
        ("chosen", "rejected"),
        tools=value.get("tools"),
    )


def _shared(a: Any, b: Any) -> int:
    """How many items two sequences begin with together."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _prompt_completion(value: Value) -> Sample:
    completion = _completion("completion", value["completion"])
    return Sample("chat", "prompt", _prompt("prompt", value), completion, tools=value.get("tools"))


def _unpaired(value: Value) -> Sample:
    completion = _completion("completion", value["completion"])
    desirable = as_boolean(value["label"])
    prompt = _prompt("prompt", value)
    return Sample(
        "unpaired", "prompt", prompt, completion, tools=value.get("tools"), desirable=desirable
    )


def _instruction(value: Value) -> Sample:
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
    return Sample("chat", "instruction", turns, _made("output", "assistant", value["output"]))


def _labelled(value: Value) -> Sample:
    label = value["label"]
    target = label if label is None else str(label)
    return Sample(
        "chat",
        "text",
        _made("text", "user", value["text"]),
        _made("label", "assistant", target),
        label=target,
    )


def _tokens(value: Value) -> Sample:
    text, target, problems = read_tagged(value)
    answer = _made("tokens", "assistant", target)
    return Sample("chat", "tokens", _made("tokens", "user", text), answer, problems=problems)


def _ask(value: Value) -> Sample:
    return Sample("prompt", "prompt", _prompt("prompt", value), tools=value.get("tools"))


def _text(value: Value) -> Sample:
    return Sample("text", "text", _made("text", "assistant", value["text"]))


def _turns(column: str, value: Value, prefix: str = "") -> list[Turn] | None:
    messages = parse_json(value.get(column))
    if not isinstance(messages, list):
        return None
    return [Turn(f"{prefix}{column}[{i}]", message) for i, message in enumerate(messages)]


def _made(column: str, role: str, content: Any) -> list[Turn]:
    return [Turn(column, {"role": role, "content": content}, own=False)]


def _prompt(column: str, value: Value) -> list[Turn]:
    return _turns(column, value) or _made(column, "user", value[column])


def _completion(column: str, content: Any, start: int = 0) -> list[Turn]:
    messages = parse_json(content)
    if not isinstance(messages, list):
        return _made(column, "assistant", content)
    return [Turn(f"{column}[{i}]", message) for i, message in enumerate(messages) if i >= start]


@dataclass(frozen=True, slots=True)
class Format:
    """The columns that a row must have, and how it becomes a sample."""

    columns: tuple[str, ...]
    convert: Callable[[Value], Sample]
    either: tuple[str, ...] = ()
    """Of these one at least."""

    def fits(self, value: Value) -> bool:
        """Whether a row has them."""
        return set(self.columns) <= set(value) and (
            not self.either or bool(set(self.either) & set(value))
        )

    def describe(self) -> str:
        """The columns, for a message."""
        return " and ".join([*self.columns, *([" or ".join(self.either)] if self.either else [])])


FORMATS: dict[str, Format] = {  # from the most telling columns to the least
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
    """The format whose columns a row has, or None."""
    for name, form in FORMATS.items():
        if form.fits(value) and (name != "unpaired-preference" or isinstance(value["label"], bool)):
            return name
    return None


def rename(value: Value, columns: dict[str, str]) -> Value:
    """The row under the format's own column names."""
    return {**value, **{ours: value[theirs] for ours, theirs in columns.items() if theirs in value}}
