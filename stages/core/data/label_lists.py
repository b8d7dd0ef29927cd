"""Targets that list labels, for classification with several labels for each row.

A target is a JSON array of strings, `["a", "b"]`, or has the labels between separators, with or
without one pair of brackets: `a, b` or `[a, b]`. `[]` lists no label. Answers have the form that
most targets of the training rows have, with the labels in their order.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import combinations

_BRACKETED = re.compile(r"(?s)([\[({])([^\[\](){}]*)([\])}])")
_PAIRS = ("[]", "()", "{}")


@dataclass(frozen=True, slots=True)
class LabelForm:
    """How targets write a list of labels."""

    quoted: bool
    """Whether the labels are JSON strings."""
    opening: str
    separator: str
    """The text between two labels, with its spaces."""
    closing: str
    nothing: str | None
    """The text that lists no label. None if every training row has a label."""

    def write(self, labels: Sequence[str]) -> str:
        """Write a list of labels as the targets do."""
        if not labels and self.nothing is not None:
            return self.nothing
        texts = [json.dumps(x, ensure_ascii=False) for x in labels] if self.quoted else labels
        return f"{self.opening}{self.separator.join(texts)}{self.closing}"


def read_labels(text: str, separator: str) -> list[str]:
    """Return the different labels that a target lists, in its order."""
    labels = _read_json(text)
    if labels is None:
        labels = _split(text)[1].split(separator)
    return [label for label in dict.fromkeys(map(str.strip, labels)) if label]


def find_form(targets: Sequence[str], separator: str) -> LabelForm:
    """Find the form in which most targets list their labels.

    Args:
        targets: The targets of the training rows.
        separator: The separator of labels without its spaces.
    """
    between = re.compile(rf"\s*{re.escape(separator)}\s*")
    styles: Counter[tuple[bool, str, str]] = Counter()
    separators: Counter[str] = Counter()
    empty: Counter[str] = Counter()
    for text in targets:
        labels = read_labels(text, separator)
        if not labels:
            empty[text] += 1
            continue
        quoted = _read_json(text) is not None
        opening, inside, closing = _split(text)
        styles[quoted, opening, closing] += 1
        if quoted:
            spaced = text.strip() == json.dumps(labels, ensure_ascii=False)
            separators[", " if spaced else ","] += len(labels) - 1
        else:
            separators.update(between.findall(inside))
    quoted, opening, closing = styles.most_common(1)[0][0] if styles else (False, "", "")
    text = separators.most_common(1)[0][0] if separators else f"{separator} "
    nothing = empty.most_common(1)[0][0] if empty else None
    return LabelForm(quoted, opening, text, closing, nothing)


def order_labels(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return all labels in the order in which most lists have them.

    If their orders contradict each other, the order is alphabetical.
    """
    names = sorted({label for labels in lists for label in labels})
    pairs = Counter(pair for labels in lists for pair in combinations(labels, 2))
    before = {
        name: [other for other in names if pairs[other, name] > pairs[name, other]]
        for name in names
    }
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError:
        return names


def _read_json(text: str) -> list[str] | None:
    """Return the strings of a JSON array, or None if the text is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    strings = isinstance(found, list) and all(isinstance(item, str) for item in found)
    return found if strings else None


def _split(text: str) -> tuple[str, str, str]:
    """Return the opening bracket, what is inside, and the closing bracket, if there are any."""
    match = _BRACKETED.fullmatch(text.strip())
    if match and match[1] + match[3] in _PAIRS:
        return match[1], match[2], match[3]
    return "", text.strip(), ""
