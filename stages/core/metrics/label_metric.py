"""What metrics of classes have in common: how a text says its label."""

import re
from abc import ABC
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import regex

from stages.core.data.unicode_text import fold
from stages.core.metrics.row_metric import RowMetric

WHOLE = "(?s)(.*)"
# Not beside a letter, digit, hyphen or the like, nor a part of 1.5: `toxic` is not in `non-toxic`, nor `c` in `c++`.
_START = regex.compile(r"(?<![\p{L}\p{M}\p{N}\p{Sc}+_'’#%&@-]|\p{N}[.,:/])(?=\S)")
_END = regex.compile(r"(?<=\S)(?![\p{L}\p{M}\p{N}\p{Sc}+_'’#%&@-]|[.,:/]\p{N})")
_MARKDOWN = regex.compile(r"[*`~]+|(?<!\w)_+|_+(?!\w)|(?m:^\s*(?:#+|>|[-+])\s)")
_QUOTES = regex.compile(
    r"""^[\p{Ps}\p{Pi}"'*_]+|[\p{Pe}\p{Pf}"'*_.,:;!?。、،؟।۔]+$"""
)  # around a label
_DENIED = regex.compile(r"\b(?:not|no|never|non|isn't|isn’t)\s(?:an?\s|the\s)?$")
_NEAR = 16  # characters before a label in which it may be denied
_ENGLISH = regex.compile(r"\b[ai]\s\p{L}")  # the article or the pronoun, no label


class LabelMetric(RowMetric, ABC):
    """Labels are compared without regard to case, to white space around them and to invisible characters.

    Options:
        pattern: a regular expression whose first group is the label, such as `\\[(.*?)\\]`; its first match counts. By
            default the whole text is the label.
    """

    advice = "give a `pattern` that finds the label in every target (evaluate.options), or choose exact_match"

    def prepare(self, references: Sequence[str], pattern: str | None = None) -> None:
        """Take the pattern, and the labels.

        Raises:
            ValueError: it has no group, or finds no label in a reference.
        """
        self.pattern = re.compile(pattern or WHOLE)
        if not self.pattern.groups:
            raise ValueError(f"pattern {pattern} has no group")
        self.targets: dict[str, str] = {}
        for text in references:
            label = read_label(text, self.pattern)
            if label is None:
                raise ValueError(f"pattern {pattern} finds no label in the reference {text!r}")
            self.targets.setdefault(label, text)

    def label(self, text: str) -> str | None:
        """The label of a text, ready to compare; None where it has none."""
        return read_label(text, self.pattern)

    def well_formed(self, prediction: str) -> bool:
        """Whether the answer is one of the labels of the references, where and how the pattern expects it."""
        return self.label(prediction) in self.targets

    def read_leniently(self, predictions: Sequence[str]) -> list[str] | None:
        """For each answer a target with the one label that it names somewhere: see `LabelFinder`."""
        finder = LabelFinder(self.targets)
        return [
            text if self.well_formed(text) else self.targets.get(finder(text) or "", text)
            for text in predictions
        ]

    @classmethod
    def confusion(
        cls, predictions: Sequence[str], references: Sequence[str], pattern: str | None = None
    ) -> dict[str, list[Any]]:
        """Per label of the references (`labels`, the rows of `matrix`) how often each label was the answer.

        The last column, which has no entry in `labels`, counts the other answers.
        """
        compiled = re.compile(pattern or WHOLE)
        pairs = [
            (read_label(r, compiled), read_label(p, compiled))
            for p, r in zip(predictions, references, strict=True)
        ]
        labels = sorted({wanted for wanted, _ in pairs if wanted is not None})
        place: dict[str | None, int] = {name: index for index, name in enumerate(labels)}
        matrix = np.zeros((len(labels), len(labels) + 1), int)
        for wanted, found in pairs:
            if wanted in place:
                matrix[place[wanted], place.get(found, len(labels))] += 1
        return {"labels": labels, "matrix": matrix.tolist()}


class LabelFinder:
    """Finds the one label that a text names as whole words, whatever Markdown and punctuation is around the two.

    Where two labels begin at the same place the longer one counts. A text that names two different labels names none,
    nor does one that denies a label in English (`not toxic`). In scripts without spaces between words a label must
    stand between spaces, punctuation or the ends of the text, for 不是 does not say 是.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        """Take the labels, which are folded."""
        given = list(labels)
        self._labels = {_QUOTES.sub("", label) or label: label for label in given} | {
            label: label for label in given
        }
        self._longest = max(map(len, self._labels), default=0)

    def __call__(self, text: str) -> str | None:
        """The label; None where there is none or more than one."""
        plain = fold(_MARKDOWN.sub(" ", text))
        found = [
            (start, label) for start, label in self._find(plain) if not _ENGLISH.match(plain, start)
        ]
        denied = any(_DENIED.search(plain, max(0, start - _NEAR), start) for start, _ in found)
        labels = {label for _, label in found}
        return labels.pop() if len(labels) == 1 and not denied else None

    def _find(self, plain: str) -> Iterator[tuple[int, str]]:
        """The places of labels that do not overlap, each the longest at its place."""
        ends = [match.end() for match in _END.finditer(plain)]
        after = 0
        for start in (match.start() for match in _START.finditer(plain)):
            near = ends[bisect_right(ends, start) : bisect_right(ends, start + self._longest)]
            end = next((end for end in reversed(near) if plain[start:end] in self._labels), None)
            if end and start >= after:
                after = end
                yield start, self._labels[plain[start:end]]


def read_label(text: str, pattern: re.Pattern[str]) -> str | None:
    """The first group of the first match, ready to compare."""
    match = pattern.search(text)
    return fold(match[1]) if match and match[1] is not None else None
