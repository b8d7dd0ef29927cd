"""Answer sheets of the general suite: what is right, what belongs to the task instead, what is wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.core.inference.general import Item
from stages.evaluate.analysis.general import passes
from stages.evaluate.analysis.task_format import TaskFormat

Answers = dict[str, Any]
Texts = dict[str, str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One model's answers to the suite, asked in one way."""

    model: str
    """`base` or `tuned`."""
    system: str
    """The system message above the items: `template` (what the chat template puts there) or `empty`."""
    items: int
    right: int
    in_task_format: int
    """Not right, and in the form of the task's answers."""
    wrong: int
    """Neither of these."""
    most_frequent: str
    """The answer that was given most often, ..."""
    most_frequent_count: int
    """... and how often."""


def get_sheets(
    items: Sequence[Item], base: Answers, tuned: Answers, task: Sequence[str]
) -> list[Sheet]:
    """The sheets of both models below the template's system message, then below an empty one where it was asked.

    Args:
        items: of the suite.
        base: of `stages.core.inference.general.ask_general`.
        tuned: the same.
        task: the task's targets and the tuned model's answers to its rows.
    """
    task_format = TaskFormat(task, list(base["answers"].values()))
    sheets = [_get_sheet(items, *sheet, task_format) for sheet in _list_sheets(base, tuned)]
    return [sheet for sheet in sheets if sheet.items]


def _list_sheets(base: Answers, tuned: Answers) -> list[tuple[str, str, Texts]]:
    """Model, system message and answers. The answers below an empty system message are few or none."""
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
        text,
        count,
    )


def describe_answers(sheets: Sequence[Sheet]) -> str:
    """What the tuned model answers instead of what it was asked, in sentences."""
    base, tuned = sheets[:2]
    sentence = (
        f"The tuned model's most frequent answer to the suite is {tuned.most_frequent[:80]!r} "
        f"({tuned.most_frequent_count} of {tuned.items} items). It gets {tuned.items - tuned.right} items wrong, "
        f"{tuned.in_task_format} of them with an answer in the form of the task's (the base model "
        f"{base.in_task_format})."
    )
    if 2 * tuned.in_task_format > tuned.items - tuned.right:
        sentence += (
            " So it does its task whatever it is asked: the suite shows that it no longer follows other instructions; "
            "for what it still knows, look at the perplexity."
        )
    return sentence + _describe_empty(sheets)


def _describe_empty(sheets: Sequence[Sheet]) -> str:
    """How both models fare without the system message that the chat template puts above every chat without one."""
    empty = {sheet.model: sheet for sheet in sheets if sheet.system == "empty"}
    if len(empty) < 2:  # noqa: PLR2004
        return ""
    base = empty["base"]
    tuned = empty["tuned"]
    return (
        f" With an empty system message instead of the template's ({tuned.items} of the items, drawn by the seed): "
        f"{tuned.right / tuned.items:.3f} after tuning, {base.right / base.items:.3f} before; {tuned.in_task_format} "
        "answers are in the form of the task's."
    )
