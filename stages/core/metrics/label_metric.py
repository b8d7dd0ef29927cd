"""Read the labels of texts, for the classification metrics."""

import re
from abc import ABC
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import regex

from stages.core.data.unicode_text import fold
from stages.core.metrics.cut_answers import may_become
from stages.core.metrics.row_metric import RowMetric

WHOLE = "(?s)(.*)"
# A label must not touch a letter, digit, hyphen or similar sign, and must not be part of a number
# such as 1.5. So `non-toxic` does not contain `toxic`, and `c++` does not contain `c`.
_START = regex.compile(r"(?<![\p{L}\p{M}\p{N}\p{Sc}+_'’#%&@-]|\p{N}[.,:/])(?=\S)")
_END = regex.compile(r"(?<=\S)(?![\p{L}\p{M}\p{N}\p{Sc}+_'’#%&@-]|[.,:/]\p{N})")
_MARKDOWN = regex.compile(r"[*`~]+|(?<!\w)_+|_+(?!\w)|(?m:^\s*(?:#+|>|[-+])\s)")
# Quotes, brackets and punctuation around a label.
_QUOTES = regex.compile(r"""^[\p{Ps}\p{Pi}"'*_]+|[\p{Pe}\p{Pf}"'*_.,:;!?。、،؟।۔]+$""")
_DENIED = regex.compile(r"\b(?:not|no|never|non|isn't|isn’t)\s(?:an?\s|the\s)?$")
_NEAR = 16  # characters before a label that are searched for a denial
# The English article `a` or pronoun `I`, which is not a label.
_ENGLISH = regex.compile(r"\b[ai]\s\p{L}")


class LabelMetric(RowMetric, ABC):
    """A metric that compares labels.

    The comparison ignores case, surrounding white space and invisible characters.

    Options:
        pattern: A regular expression whose first group is the label, such as `\\[(.*?)\\]`. Its
            first match counts. By default the whole text is the label.
    """

    advice = (
        "set a `pattern` in evaluate.options that finds the label in every target, "
        "or choose exact_match"
    )

    def prepare(self, references: Sequence[str], pattern: str | None = None) -> None:
        """Compile the pattern and collect the labels of the references.

        Raises:
            ValueError: The pattern has no group, or finds no label in a reference.
        """
        self.pattern = re.compile(pattern or WHOLE)
        if not self.pattern.groups:
            raise ValueError(f"pattern {pattern} has no capture group for the label")
        self.targets: dict[str, str] = {}
        for text in references:
            label = read_label(text, self.pattern)
            if label is None:
                raise ValueError(f"pattern {pattern} finds no label in the reference {text!r}")
            self.targets.setdefault(label, text)

    def label(self, text: str) -> str | None:
        """Get the label of a text, folded for comparison, or None if the text has none."""
        return read_label(text, self.pattern)

    def well_formed(self, prediction: str) -> bool:
        """Check whether the pattern finds one of the references' labels in the answer."""
        return self.label(prediction) in self.targets

    def may_become_right(self, prediction: str, reference: str) -> bool:
        """Check whether the reference begins as the answer does, if the whole text is the label."""
        return self.pattern.pattern != WHOLE or may_become(prediction, reference)

    def read_leniently(self, predictions: Sequence[str]) -> list[str] | None:
        """Replace each answer by a target with the one label that `LabelFinder` finds in it.

        Well-formed answers, and answers without such a label, stay as they are.
        """
        finder = LabelFinder(self.targets)
        return [
            text if self.well_formed(text) else self.targets.get(finder(text) or "", text)
            for text in predictions
        ]

    @classmethod
    def confusion(
        cls, predictions: Sequence[str], references: Sequence[str], pattern: str | None = None
    ) -> dict[str, list[Any]]:
        """Count for each label of the references how often each label was the answer.

        Returns:
            `labels`, the labels of the references, and `matrix`, which has a row for each of them.
            The columns are the labels in the same order. One more column counts other answers.
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
    """Finds the one label that a text names as whole words.

    It ignores Markdown and punctuation around a label. If two labels begin at the same place, the
    longer one counts. It finds nothing in a text that names two different labels, or that denies a
    label in English (`not toxic`). In scripts without spaces between words, a label must stand
    between spaces, punctuation or the ends of the text, because 不是 does not mean 是.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        """Take the labels, which must be folded."""
        given = list(labels)
        self._labels = {_QUOTES.sub("", label) or label: label for label in given} | {
            label: label for label in given
        }
        self._longest = max(map(len, self._labels), default=0)

    def __call__(self, text: str) -> str | None:
        """Find the label of a text; None if there is none, more than one, or a denied one."""
        plain = fold(_MARKDOWN.sub(" ", text))
        found = [
            (start, label) for start, label in self._find(plain) if not _ENGLISH.match(plain, start)
        ]
        denied = any(_DENIED.search(plain, max(0, start - _NEAR), start) for start, _ in found)
        labels = {label for _, label in found}
        return labels.pop() if len(labels) == 1 and not denied else None

    def _find(self, plain: str) -> Iterator[tuple[int, str]]:
        """Yield the start and the label of each match, without overlaps and longest first."""
        ends = [match.end() for match in _END.finditer(plain)]
        after = 0
        for start in (match.start() for match in _START.finditer(plain)):
            near = ends[bisect_right(ends, start) : bisect_right(ends, start + self._longest)]
            end = next((end for end in reversed(near) if plain[start:end] in self._labels), None)
            if end and start >= after:
                after = end
                yield start, self._labels[plain[start:end]]


def read_label(text: str, pattern: re.Pattern[str]) -> str | None:
    """Get the first group of the first match, folded for comparison; None if there is none."""
    match = pattern.search(text)
    return fold(match[1]) if match and match[1] is not None else None
