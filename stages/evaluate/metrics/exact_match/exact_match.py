"""Exact match: the share of rows whose whole answer is the target, after the chosen normalisers."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from stages.core.row_metric import RowMetric

NORMALISERS: dict[str, Callable[[str], str]] = {
    "case": str.casefold,
    "spaces": lambda text: " ".join(text.split()),
    "unicode": lambda text: unicodedata.normalize("NFKC", text),
    "punctuation": lambda text: "".join(c for c in text if not unicodedata.category(c).startswith("P")),
    "articles": lambda text: re.sub(r"\b(a|an|the)\b", " ", text),
}


class ExactMatch(RowMetric):
    """1 for a row whose normalised prediction equals its normalised reference, 0 otherwise.

    Options:
        normalise: names out of `case`, `spaces`, `unicode`, `punctuation`, `articles`. Without it case and spaces do
            not count. All five are more than the normalisation of SQuAD (Rajpurkar et al., 2016).
    """

    def prepare(self, references: Sequence[str], normalise: Sequence[str] = ("case", "spaces")) -> None:
        unknown = set(normalise) - set(NORMALISERS)
        if unknown:
            raise ValueError(f"unknown normaliser {', '.join(sorted(unknown))}; there are {', '.join(NORMALISERS)}")
        # Spaces last: what is taken out may leave some.
        self.steps = [NORMALISERS[name] for name in sorted(normalise, key=lambda name: name == "spaces")]

    def contribute(self, prediction: str, reference: str, record: dict[str, Any]) -> tuple[float, float]:
        return float(self.normalised(prediction) == self.normalised(reference)), 1.0

    def normalised(self, text: str) -> str:
        """The text after every step."""
        for step in self.steps:
            text = step(text)
        return text
