"""Sort the answers to the general suite: correct, in the form of the task, or wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.core.inference.general import MAX_NEW_TOKENS, Item
from stages.evaluate.analysis.general import passes
from stages.evaluate.analysis.task_format import TaskFormat

EMPTY = 0.05  # the report warns if a larger share of the base model's answers has no text
Answers = dict[str, Any]
Texts = dict[str, str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Count one model's answers to the suite under one system message."""

    model: str
    """`base` or `tuned`."""
    system: str
    """The system message of the items: `template` (that of the chat template) or `empty`."""
    items: int
    right: int
    in_task_format: int
    """The number of incorrect answers in the form of the task's answers."""
    wrong: int
    """The number of all other incorrect answers."""
    empty: int
    """The number of answers without text, such as those that the limit ended within a thought."""
    most_frequent: str
    """The most frequent answer."""
    most_frequent_count: int
    """How often it was given."""


def get_sheets(
    items: Sequence[Item], base: Answers, tuned: Answers, task: Sequence[str]
) -> list[Sheet]:
    """Get the sheets of both models.

    Args:
        items: The items of the suite.
        base: The base model's result of `stages.core.inference.general.ask_general`.
        tuned: The tuned model's result of the same function.
        task: The targets of the task, and the answers of the tuned model to its rows.

    Returns:
        The sheets with the template's system message, then those with an empty one if it was used.
    """
    task_format = TaskFormat(task, list(base["answers"].values()))
    sheets = [_get_sheet(items, *sheet, task_format) for sheet in _list_sheets(base, tuned)]
    return [sheet for sheet in sheets if sheet.items]


def _list_sheets(base: Answers, tuned: Answers) -> list[tuple[str, str, Texts]]:
    """List model, system message and answers. An empty system message has few answers or none."""
    models = {"base": base, "tuned": tuned}
    return [
        *((name, "template", answers["answers"]) for name, answers in models.items()),
        *(
            (name, "empty", answers.get("answers_without_system", {}))
            for name, answers in models.items()
        ),
    ]


def _get_sheet(
    items: Sequence[Item], model: str, system: str, texts: Texts, task_format: TaskFormat
) -> Sheet:
    asked = [item for item in items if item.id in texts]
    failed = [texts[item.id] for item in asked if not passes(item, texts[item.id])]
    in_format = sum(task_format.has(text) for text in failed)
    [(text, count)] = Counter(texts[item.id].strip() for item in asked).most_common(1) or [("", 0)]
    return Sheet(
        model,
        system,
        len(asked),
        len(asked) - len(failed),
        in_format,
        len(failed) - in_format,
        sum(not texts[item.id].strip() for item in asked),
        text,
        count,
    )


def describe_answers(sheets: Sequence[Sheet]) -> str:
    """Describe in sentences what the tuned model answers instead of what it was asked."""
    base, tuned = sheets[:2]
    sentence = (
        "The tuned model's most frequent answer to the suite is "
        f"{tuned.most_frequent[:80]!r} "
        f"({tuned.most_frequent_count} of {tuned.items} items). It gets "
        f"{tuned.items - tuned.right} items wrong. Of these answers, {tuned.in_task_format} have "
        f"the form of the task's answers (base model: {base.in_task_format})."
    )
    if 2 * tuned.in_task_format > tuned.items - tuned.right:
        sentence += (
            " So it performs its task whatever it is asked. The suite shows that it no longer "
            "follows other instructions. The perplexity shows what it still knows."
        )
    return sentence + _describe_empty(sheets)


def warn_about_empty_answers(sheets: Sequence[Mapping[str, Any]]) -> str | None:
    """Warn if the base model answered many items with nothing, so that little could be forgotten."""
    base, tuned = sheets[:2]
    if base["empty"] <= EMPTY * base["items"]:
        return None
    return (
        f"{base['empty']} of the base model's {base['items']} answers to the general suite have no "
        f"text, and {tuned['empty']} of the tuned model's. They count as wrong, so the tuned model "
        f"may have forgotten more than the suite shows. It allows {MAX_NEW_TOKENS} tokens, which end "
        "many thoughts. A model that thinks is asked without thoughts if its template has an "
        "argument for that, such as +model.chat_template_kwargs.enable_thinking=false."
    )


def _describe_empty(sheets: Sequence[Sheet]) -> str:
    """Describe the answers without the system message that the chat template adds by default."""
    empty = {sheet.model: sheet for sheet in sheets if sheet.system == "empty"}
    if len(empty) < 2:  # noqa: PLR2004
        return ""
    base = empty["base"]
    tuned = empty["tuned"]
    return (
        f" On {tuned.items} items, drawn with the seed and asked with an empty system message, the "
        f"score is {tuned.right / tuned.items:.3f} after tuning and "
        f"{base.right / base.items:.3f} before. There, {tuned.in_task_format} of the tuned model's "
        "wrong answers have the form of the task's answers."
    )
