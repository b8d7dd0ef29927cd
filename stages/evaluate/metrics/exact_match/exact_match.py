"""Exact match: the share of rows whose whole answer is the target, whatever its case and spacing."""

import datasets
import evaluate

_DESCRIPTION = """
1 for a row whose prediction equals its reference after lower-casing, joining runs of white space into one blank and
trimming; 0 otherwise.
"""

_KWARGS = """
Args:
    predictions: texts.
    references: texts.
Returns:
    exact_match: mean of the rows, in [0, 1].
    numerators, denominators: for each row what it adds to the mean's numerator (0 or 1) and denominator (1).
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS)
class ExactMatch(evaluate.Metric):
    """Case and white space do not count; everything else does."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description=_DESCRIPTION, citation="", inputs_description=_KWARGS, features=features)

    def _compute(self, predictions: list[str], references: list[str]) -> dict:
        rows = [float(_normalise(p) == _normalise(r)) for p, r in zip(predictions, references, strict=True)]
        return {"exact_match": sum(rows) / len(rows), "numerators": rows, "denominators": [1.0] * len(rows)}


def _normalise(text: str) -> str:
    return " ".join(text.lower().split())
