"""Detect answers to general questions that have the form of the task's answers.

A model that was tuned on one task may perform that task whatever it is asked. Such an answer says
nothing about what the model still knows, so it is counted apart from an answer that is simply
wrong.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

# A form belongs to the task if at least the share FREQUENT of the task's texts have it, and at most
# the share RARE of the base model's answers to the same general questions.
FREQUENT = 0.05
RARE = 0.01
OPENING = {"Ps", "Pi"}  # Unicode categories of opening brackets and quotation marks
QUOTES = set("\"'`<{[(|*")

Mark = tuple[str, str]


class TaskFormat:
    """Recognize the form of the task's answers.

    The form is learned from the texts of the task. The base model's general answers are the
    control.
    """

    def __init__(self, task: Sequence[str], general: Sequence[str]) -> None:
        """Find the marks of the task.

        Args:
            task: The targets of the task, and the answers of the tuned model to its rows.
            general: The base model's answers to general questions.
        """
        of_task = Counter(mark for text in task for mark in _marks(text))
        usual = Counter(mark for text in general for mark in _marks(text))
        self._marks = {
            mark
            for mark, count in of_task.items()
            if (mark[0] == "whole" or count >= FREQUENT * len(task))
            and usual[mark] <= RARE * len(general)
        }

    def has(self, text: str) -> bool:
        """Tell whether a text has the form of the task's texts.

        A text has the form if it equals one of them, or if it begins or is enclosed as many of
        them are.
        """
        return not self._marks.isdisjoint(_marks(text))


def _marks(text: str) -> set[Mark]:
    plain = " ".join(text.casefold().split())
    if not plain:
        return set()
    marks = {("whole", plain)}
    if first := re.match(r"\w+", plain):
        marks.add(("first word", first[0]))
    elif plain[0] in QUOTES or unicodedata.category(plain[0]) in OPENING:
        marks.add(("enclosed", plain[0] + plain[-1]))
    return marks
