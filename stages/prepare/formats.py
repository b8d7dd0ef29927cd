"""The forms that rows come in, each turned into the messages of a chat whose last one is the target."""

from collections.abc import Callable
from typing import Any

Messages = list[Any]
Value = dict[str, Any]

# Each format: the columns that a row must have, from the most telling to the least.
COLUMNS: dict[str, tuple[str, ...]] = {
    "chat": ("messages",),
    "sharegpt": ("conversations",),
    "evals": ("input", "ideal"),
    "prompt-completion": ("prompt", "completion"),
    "instruction": ("instruction", "output"),
    "labelled": ("text", "label"),
}
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}  # the others have their own names


def detect(value: Value) -> str | None:
    """The format whose columns a row has, or None."""
    return next((name for name, columns in COLUMNS.items() if set(columns) <= set(value)), None)


def rename(value: Value, columns: dict[str, str]) -> Value:
    """The row under the format's own column names."""
    return {**value, **{ours: value[theirs] for ours, theirs in columns.items() if theirs in value}}


def to_messages(value: Value, name: str) -> Any:
    """What stands for the list of messages in a row of the format; whether it is sound is for the checks to say."""
    return CONVERTERS[name](value)


def _chat(value: Value) -> Any:
    return value.get("messages")


def _sharegpt(value: Value) -> Any:
    turns = value["conversations"]
    if not isinstance(turns, list):
        return turns
    return [
        {"role": SHAREGPT_ROLES.get(str(turn.get("from")), turn.get("from")), "content": turn.get("value")}
        if isinstance(turn, dict)
        else turn
        for turn in turns
    ]


def _evals(value: Value) -> Any:
    ideal = value["ideal"]
    return _with_target(value["input"], ideal[0] if isinstance(ideal, list) and ideal else ideal)


def _prompt_completion(value: Value) -> Any:
    completion = value["completion"]
    if isinstance(completion, list):  # TRL's conversational form
        return _as_messages(value["prompt"]) + completion
    return _with_target(value["prompt"], completion)


def _instruction(value: Value) -> Any:
    parts = [text for text in (value["instruction"], value.get("input")) if text]
    question = "\n\n".join(parts) if all(isinstance(text, str) for text in parts) else None
    system = [{"role": "system", "content": value["system"]}] if value.get("system") else []
    return _with_target([*system, {"role": "user", "content": question}], value["output"])


def _labelled(value: Value) -> Any:
    label = value["label"]
    return _with_target(value["text"], label if label is None else str(label))


def _with_target(prompt: Any, target: Any) -> Messages:
    return [*_as_messages(prompt), {"role": "assistant", "content": target}]


def _as_messages(prompt: Any) -> Messages:
    return prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]


CONVERTERS: dict[str, Callable[[Value], Any]] = {
    "chat": _chat,
    "sharegpt": _sharegpt,
    "evals": _evals,
    "prompt-completion": _prompt_completion,
    "instruction": _instruction,
    "labelled": _labelled,
}
