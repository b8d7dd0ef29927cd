"""chrF2: the runs of characters that predictions share with their references, over the whole corpus."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics.helpers import extract_all_char_ngrams

from stages.core.data.unicode_text import clean
from stages.core.metrics.row_metric import RowMetric

ORDER = 6
BETA = 2


class Chrf(RowMetric):
    """Corpus chrF2 (Popović, 2015) out of 1, equal to `corpus_chrf` of sacrebleu (Post, 2018) by its defaults.

    These are runs of up to 6 characters without white space, recall with twice the weight of precision, and no runs of
    words. Precision and recall are the means over the lengths that occur on both sides. It needs no words and works in
    every script. Texts are brought to one form of Unicode first (`stages.core.data.unicode_text.clean`).
    """

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        found_in, wanted_in = (
            extract_all_char_ngrams(clean(text), ORDER) for text in (prediction, reference)
        )
        pairs = zip(found_in, wanted_in, strict=True)
        counts = (
            (found.total() if wanted else 0, wanted.total(), (found & wanted).total())
            for found, wanted in pairs
        )
        return [float(count) for three in counts for count in three]

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        found, wanted, shared = np.moveaxis(sums.reshape(*sums.shape[:-1], ORDER, 3), -1, 0)
        orders = np.maximum(((found > 0) & (wanted > 0)).sum(axis=-1), 1)
        precision, recall = (
            (shared / np.maximum(side, 1)).sum(axis=-1) / orders for side in (found, wanted)
        )
        bottom = BETA**2 * precision + recall
        return np.where(
            bottom > 0, (1 + BETA**2) * precision * recall / np.where(bottom > 0, bottom, 1), 0.0
        )
