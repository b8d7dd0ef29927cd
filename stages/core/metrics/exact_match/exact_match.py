"""Exact match: the share of rows whose whole answer is the target, after the chosen normalisers."""

from collections.abc import Callable, Sequence
from typing import Any

import regex

from stages.core.data.unicode_text import clean, fold, unify
from stages.core.metrics.label_metric import LabelFinder
from stages.core.metrics.row_metric import RowMetric

SHORT = 100  # characters of the longest target that is still looked for in an answer
FEW = 1000  # different targets: among more an answer names some other one by chance
_ARTICLE = regex.compile(r"(?i)\b(?:an?|the)\s+(?=\w\w)")
# Marks that belong to a number: 1.5, 10:30, 5%, -5, .5
_OF_NUMBER = (
    r"(?<=\p{N})\p{P}(?=\p{N})|(?<=\p{N})[%‰٪]|(?<![\p{L}\p{M}\p{N}])[-‐‑–.](?=[\p{Sc}.]*\p{N})"
)
_PUNCTUATION = regex.compile(rf"({_OF_NUMBER})|\p{{P}}")

NORMALISERS: dict[str, Callable[[str], str]] = {
    "unicode": unify,
    "case": str.casefold,
    "articles": lambda text: _ARTICLE.sub("", text),
    "punctuation": lambda text: _PUNCTUATION.sub(r"\1", text),
    "spaces": lambda text: " ".join(text.split()),
}
"""By name, in the order in which they are applied."""


class ExactMatch(RowMetric):
    """1 for a row whose normalised prediction equals its normalised reference, 0 otherwise.

    Both are brought to one form of Unicode first (`stages.core.data.unicode_text.clean`), so that characters that look
    the same are the same and invisible ones do not count.

    Options:
        normalise: names out of `case`, `spaces`, `articles`, `punctuation`, `unicode`, in any order; without it case
            and spaces do not count. All five are close to the normalisation of SQuAD (Rajpurkar et al., 2016).
            `articles` are the English ones before another word. `punctuation` leaves the marks of numbers (1.5, -5,
            5%). `unicode` makes one of all widths and forms of a character, of the digits of all scripts, of the
            Arabic, Persian and Urdu codes of ye, kaf and he (ي ی, ك ک, ه ہ), and drops the tatweel. A normaliser that
            would leave nothing of a text is not applied to it.
    """

    def prepare(
        self, references: Sequence[str], normalise: Sequence[str] = ("case", "spaces")
    ) -> None:
        unknown = set(normalise) - set(NORMALISERS)
        if unknown:
            raise ValueError(
                f"unknown normaliser {', '.join(sorted(unknown))}; there are {', '.join(NORMALISERS)}"
            )
        self.steps = [step for name, step in NORMALISERS.items() if name in normalise]
        self.targets = {fold(text): text for text in references}

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> tuple[float, float]:
        return float(self.normalised(prediction) == self.normalised(reference)), 1.0

    def normalised(self, text: str) -> str:
        """The text after every step."""
        text = clean(text)
        for step in self.steps:
            after = step(text)
            text = after if after.strip() else text
        return clean(text)

    def read_leniently(self, predictions: Sequence[str]) -> list[str] | None:
        """For each answer the one target of any row that it names somewhere, if all are short and few."""
        if max(map(len, self.targets), default=0) > SHORT or len(self.targets) > FEW:
            return None
        finder = LabelFinder(self.targets)
        return [self.targets.get(finder(text) or "", text) for text in predictions]
