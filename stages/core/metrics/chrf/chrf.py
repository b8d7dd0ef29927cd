"""Compute corpus chrF2 from the character n-grams that predictions share with references."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics.helpers import extract_all_char_ngrams

from stages.core.data.unicode_text import clean
from stages.core.metrics.row_metric import RowMetric

ORDER = 6
BETA = 2


class Chrf(RowMetric):
    """Computes corpus chrF2 (Popović, 2015) from 0 to 1, like `corpus_chrf` of sacrebleu.

    It equals the value of sacrebleu (Post, 2018) with default settings, divided by 100. These
    settings are n-grams of up to 6 characters without white space, recall weighted twice as much as
    precision, and no word n-grams. Precision and recall are means over the n-gram lengths that
    occur on both sides. The metric needs no words and works in every script.
    `stages.core.data.unicode_text.clean` normalises the texts first.
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
