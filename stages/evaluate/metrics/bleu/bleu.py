"""BLEU: the n-grams that predictions share with their references, over the whole corpus."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sacrebleu

from stages.core.row_metric import RowMetric

ORDER = 4


class Bleu(RowMetric):
    """Corpus BLEU (Papineni et al., 2002) out of 1, equal to `corpus_bleu` of sacrebleu (Post, 2018) by its defaults.

    These are the tokeniser 13a, n-grams up to 4 and exponential smoothing. A row's own score is sacrebleu's
    `sentence_bleu`, which leaves out orders longer than the prediction.
    """

    def prepare(self, references: Sequence[str], **options: Any) -> None:
        super().prepare(references, **options)
        self.scorer = sacrebleu.BLEU(effective_order=True)

    def contribute(self, prediction: str, reference: str, record: dict[str, Any]) -> Sequence[float]:
        score = self.scorer.sentence_score(prediction, [reference])
        return [*map(float, score.counts), *map(float, score.totals), float(score.sys_len), float(score.ref_len)]

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        return bleu(sums, np.full(sums.shape[:-1], ORDER))

    def row_values(self, rows: np.ndarray) -> np.ndarray:
        return bleu(rows, (rows[:, ORDER : 2 * ORDER] > 0).sum(axis=1))


def bleu(sums: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """The score from matches and n-grams of each order, length and length of the references; of the first `orders`."""
    correct, total, lengths = sums[..., :ORDER], sums[..., ORDER : 2 * ORDER], np.maximum(sums[..., 2 * ORDER :], 1e-9)
    smoothed = np.where(correct > 0, correct, 0.5 ** (correct == 0).cumsum(axis=-1))  # 1/2, 1/4, ... of a match
    precision = np.log(smoothed / np.maximum(total, 1))
    counted = np.arange(ORDER) < orders[..., None]
    mean = np.where(counted, precision, 0).sum(axis=-1) / np.maximum(orders, 1)
    brevity = np.minimum(1 - lengths[..., 1] / lengths[..., 0], 0)
    defined = (correct > 0).any(axis=-1) & (~counted | (total > 0)).all(axis=-1)
    return np.where(defined, np.exp(brevity + mean), 0.0)
