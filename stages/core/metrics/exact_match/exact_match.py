"""Compute the share of rows whose whole answer is the target after normalisation."""

from collections.abc import Callable, Sequence
from typing import Any

import regex

from stages.core.data.unicode_text import clean, fold, unify
from stages.core.metrics.cut_answers import may_become
from stages.core.metrics.label_metric import LabelFinder
from stages.core.metrics.row_metric import RowMetric

SHORT = 100  # characters of the longest target that lenient reading looks for in an answer
# The most distinct targets for lenient reading. With more of them, an answer would name other
# targets by chance.
FEW = 1000
_ARTICLE = regex.compile(r"(?i)\b(?:an?|the)\s+(?=\w\w)")
# Marks that belong to a number, as in 1.5, 10:30, 5%, -5 and .5.
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
"""The normalisers by name, in the order in which they are applied."""


class ExactMatch(RowMetric):
    """Scores 1 if the normalised prediction equals the normalised reference, and 0 otherwise.

    `stages.core.data.unicode_text.clean` is applied to both texts first, so characters that look
    the same are the same and invisible characters do not count.

    Options:
        normalise: The names of normalisers in any order, from `case`, `spaces`, `articles`,
            `punctuation` and `unicode`. The default is `case` and `spaces`. All five together are
            close to the normalisation of SQuAD (Rajpurkar et al., 2016). `articles` drops English
            articles before another word. `punctuation` keeps the marks of numbers (1.5, -5, 5%).
            `unicode` unifies all widths and forms of a character, the digits of all scripts, and
            the Arabic, Persian and Urdu codes of ye, kaf and he (ي ی, ك ک, ه ہ), and it drops the
            tatweel. A normaliser that would leave nothing of a text is not applied to it.
    """

    def prepare(
        self, references: Sequence[str], normalise: Sequence[str] = ("case", "spaces")
    ) -> None:
        unknown = set(normalise) - set(NORMALISERS)
        if unknown:
            raise ValueError(
                f"unknown normaliser {', '.join(sorted(unknown))}; "
                f"choose from {', '.join(NORMALISERS)}"
            )
        self.steps = [step for name, step in NORMALISERS.items() if name in normalise]
        self.targets = {fold(text): text for text in references}

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> tuple[float, float]:
        return float(self.normalised(prediction) == self.normalised(reference)), 1.0

    def normalised(self, text: str) -> str:
        """Apply every normaliser to a text."""
        text = clean(text)
        for step in self.steps:
            after = step(text)
            text = after if after.strip() else text
        return clean(text)

    def may_become_right(self, prediction: str, reference: str) -> bool:
        """Check whether the reference begins as the answer does."""
        return may_become(prediction, reference)

    def read_leniently(self, predictions: Sequence[str]) -> list[str] | None:
        """Replace each answer by the one target of any row that it names.

        Returns None if the targets are too long (`SHORT`) or too many (`FEW`).
        """
        if max(map(len, self.targets), default=0) > SHORT or len(self.targets) > FEW:
            return None
        finder = LabelFinder(self.targets)
        return [self.targets.get(finder(text) or "", text) for text in predictions]
