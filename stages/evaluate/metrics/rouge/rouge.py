"""ROUGE: the words, pairs of words or longest common subsequence that prediction and reference share."""

from collections.abc import Sequence
from typing import Any

from rouge_score.rouge_scorer import RougeScorer

from stages.core.row_metric import RowMetric

KINDS = ("rougeL", "rouge1", "rouge2")


class Rouge(RowMetric):
    """The mean over the rows of each row's ROUGE F1 (Lin, 2004), as the package rouge-score computes it.

    Words are runs of the letters a to z and of digits, so that it says nothing about languages with another alphabet.

    Options:
        kind: `rougeL`, the longest common subsequence, by default; `rouge1`, words; `rouge2`, pairs of words.
    """

    def prepare(self, references: Sequence[str], kind: str = "rougeL") -> None:
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind}; there are {', '.join(KINDS)}")
        self.kind, self.scorer = kind, RougeScorer([kind])

    def contribute(self, prediction: str, reference: str, record: dict[str, Any]) -> Sequence[float]:
        return self.scorer.score(reference, prediction)[self.kind].fmeasure, 1.0
