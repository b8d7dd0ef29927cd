"""Whether an answer to a general question has the form of the task's answers.

A model that was tuned on one task may answer that task whatever it is asked. Such an answer says nothing about what the
model still knows, so that it is counted apart from an answer that is plainly wrong.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

FREQUENT = 0.05  # a form is the task's where at least so many of its texts have it, ...
RARE = 0.01  # ... and at most so many of the base model's answers to the same general questions
OPENING = {"Ps", "Pi"}  # Unicode's categories of opening brackets and quotation marks
QUOTES = set("\"'`<{[(|*")

Mark = tuple[str, str]


class TaskFormat:
    """Learned from the task's texts, with the base model's general answers as the control."""

    def __init__(self, task: Sequence[str], general: Sequence[str]) -> None:
        """Find the marks of the task.

        Args:
            task: its targets, and what the tuned model answers to its rows.
            general: the base model's answers to general questions.
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
        """Whether the text equals one of the task's, or begins or is enclosed as many of them are."""
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
