"""Numeric match: the share of rows whose answer is the right number."""

import re
from collections.abc import Sequence
from typing import Any

from stages.core.row_metric import RowMetric

_NUMBER = re.compile(
    r"(?<![\w.])([-+−]?)[$€£¥]?"  # a hyphen between digits is no sign, and Q3 is no number
    r"((?:\d{1,3}(?:[,'\u00a0\u202f]\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:(?:e|\s?[x×*]\s?10(?:\^|\*\*))([-+−]?\d+))?(\s?%)?",
    re.IGNORECASE,
)


class NumericMatch(RowMetric):
    """1 for a row whose prediction ends in the number that its reference ends in, 0 otherwise.

    The last number of each text counts, as with GSM8K (Cobbe et al., 2021): `-1,234.5`, `.5`, `$12`, `1.2e-3`,
    `1.2 x 10^3`. A percentage is so many hundredths, so that 12% is 0.12; where only one of the two has the sign, 12%
    is 12 as well. Where the reference has no number the texts must be equal but for case and white space.

    Options:
        relative: how far the prediction may be off, as a share of the reference; 1e-4 by default.
    """

    def prepare(self, references: Sequence[str], relative: float = 1e-4) -> None:
        if not 0 <= relative < 1:
            raise ValueError(f"relative must be from 0 to below 1, got {relative}")
        self.relative = relative

    def contribute(self, prediction: str, reference: str, record: dict[str, Any]) -> Sequence[float]:
        found, wanted = last_number(prediction), last_number(reference)
        if wanted is None:
            return float(prediction.casefold().split() == reference.casefold().split()), 1.0
        return float(found is not None and self.same(found, wanted)), 1.0

    def same(self, found: tuple[float, bool], wanted: tuple[float, bool]) -> bool:
        """Whether two numbers, each with whether it is a percentage, agree."""
        scale = 0.01 ** (found[1] - wanted[1])
        numbers = (found[0], found[0] * scale)
        return wanted[0] in numbers or any(abs(n - wanted[0]) <= self.relative * abs(wanted[0]) for n in numbers)


def last_number(text: str) -> tuple[float, bool] | None:
    """The last number in the text and whether it is a percentage."""
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    sign, digits, exponent, percent = found[-1].groups("")
    value = float(re.sub(r"[^\d.]", "", digits) + (f"e{exponent.replace('−', '-')}" if exponent else ""))
    return (-value if sign in ("-", "−") else value), bool(percent)
