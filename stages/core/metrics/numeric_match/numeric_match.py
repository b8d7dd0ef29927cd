"""Compute the share of rows whose answer is the right number."""

import math
from collections.abc import Sequence
from typing import Any

from stages.core.data.unicode_text import fold
from stages.core.metrics.row_metric import RowMetric
from stages.core.metrics.text_numbers import Number, find_numbers, is_only

WHICH = ("only", "last")


class NumericMatch(RowMetric):
    """Scores 1 if the prediction gives the number that the reference gives, and 0 otherwise.

    If a text marks its result with `####` or `\\boxed{}`, only the last such mark counts. A text
    gives its number only if it has no other one: a text with two different numbers (`5 (see 2)`,
    `3-5`) gives none and is wrong. The metric reads `-1,234.5`, `1 234.5` (with any space),
    `1'234.5`, `12,34,567`, `.5`, `$12`, `1.2e-3`, `1.2 x 10^3`, the digits of all scripts, and
    magnitudes after the number (`3 million`, `$3M`, `3 लाख`, `3万`). A percentage counts as
    hundredths, so 12% is 0.12. If only one of the two texts has a percent sign, 12% also equals 12.
    If the reference has no number, the texts must be equal apart from case, white space and
    invisible characters.

    Options:
        decimal: The decimal separator, `.` (the default) or `,`. The other one separates thousands.
        which: `only` (the default) or `last`. With `last`, the last number of a text counts, as for
            GSM8K (Cobbe et al., 2021).
        relative: How far the prediction may be off, as a share of the reference. The default is
            1e-4.
    """

    advice = (
        "set `decimal` and `which` in evaluate.options.numeric_match to match the targets, "
        "or choose exact_match"
    )

    def prepare(
        self,
        references: Sequence[str],
        relative: float = 1e-4,
        decimal: str = ".",
        which: str = "only",
    ) -> None:
        if not 0 <= relative < 1:
            raise ValueError(f"relative must be at least 0 and less than 1, got {relative}")
        if decimal not in (".", ","):
            raise ValueError(f"decimal must be '.' or ',', got {decimal!r}")
        if which not in WHICH:
            raise ValueError(f"which must be {' or '.join(WHICH)}, got {which!r}")
        self.relative = relative
        self.decimal = decimal
        self.which = which
        for text in references:
            self._check_target(text)

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        found = self.number(prediction)
        wanted = self.number(reference)
        if wanted is None:
            return float(fold(prediction) == fold(reference)), 1.0
        return float(found is not None and self.same(found, wanted)), 1.0

    def number(self, text: str) -> Number | None:
        """Read the number that a text gives, if it gives one."""
        numbers = find_numbers(text, self.decimal)
        return numbers[-1] if numbers and (self.which == "last" or is_only(numbers)) else None

    def same(self, found: Number, wanted: Number) -> bool:
        """Check whether two numbers agree within the tolerance."""
        scale = 0.01 ** (found.percent - wanted.percent)
        numbers = (found.value, found.value * scale)
        near = self.relative * abs(wanted.value)
        return wanted.value in numbers or any(
            abs(number - wanted.value) <= near for number in numbers
        )

    def well_formed(self, prediction: str) -> bool:
        """Check whether the answer gives exactly one number that can be read."""
        numbers = find_numbers(prediction, self.decimal)
        return is_only(numbers) and not math.isnan(numbers[0].value)

    def read_leniently(self, predictions: Sequence[str]) -> list[str] | None:
        """Replace each answer by its last number."""
        numbers = [find_numbers(text, self.decimal) for text in predictions]
        return [
            found[-1].text if found else text
            for text, found in zip(predictions, numbers, strict=True)
        ]

    def _check_target(self, text: str) -> None:
        numbers = find_numbers(text, self.decimal)
        if self.which == "only" and len(numbers) > 1 and not is_only(numbers):
            raise ValueError(
                f"the target {text!r:.200} has several numbers; set which=last if the last one "
                "counts, or choose exact_match"
            )
        if numbers and math.isnan(numbers[-1].value):
            other = "," if self.decimal == "." else "."
            raise ValueError(
                f"the target {text!r:.200} has no number that can be read with "
                f"decimal={self.decimal!r}; set decimal={other!r} if that is the decimal "
                "separator, or choose exact_match"
            )
