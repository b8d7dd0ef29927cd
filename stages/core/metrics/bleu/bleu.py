"""Compute corpus BLEU from the n-grams that predictions share with their references."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sacrebleu

from stages.core.data.unicode_text import clean, count_scripts
from stages.core.metrics.row_metric import RowMetric

ORDER = 4
TOKENIZERS = (
    "13a",
    "intl",
    "char",
    "zh",
    "ja-mecab",
    "ko-mecab",
    "none",
)
"""The tokenizers of sacrebleu that need no download."""
_BY_SCRIPT = {
    "Latin": "13a",
    "Han": "zh",
    **dict.fromkeys(("Thai", "Lao", "Khmer", "Myanmar"), "char"),
}
_KANA = ("Hiragana", "Katakana")


class Bleu(RowMetric):
    """Computes corpus BLEU (Papineni et al., 2002) from 0 to 1, like `corpus_bleu` of sacrebleu.

    It uses n-grams of up to 4 words and exponential smoothing, and equals the value of sacrebleu
    (Post, 2018) divided by 100. A row's own score is sacrebleu's `sentence_bleu`, which leaves out
    orders that are longer than the prediction. `stages.core.data.unicode_text.clean` normalises the
    texts first.

    Options:
        tokenizer: A tokenizer of sacrebleu, which is `13a`, `intl`, `char`, `zh` or `none`, or
            `ja-mecab` or `ko-mecab` with the extras of sacrebleu. The default depends on the script
            of most letters in the references. It is `13a`, the default of sacrebleu, for Latin,
            `zh` for Chinese, `char` for Japanese and other scripts without spaces between words,
            and `intl` for all other scripts.
    """

    advice = (
        "set +evaluate.options.bleu.tokenizer=char, or choose chrf, which works for short texts "
        "and all scripts"
    )
    tokenizer = "13a"

    def prepare(self, references: Sequence[str], tokenizer: str | None = None) -> None:
        if tokenizer not in (None, *TOKENIZERS):
            raise ValueError(f"unknown tokenizer {tokenizer}; choose from {', '.join(TOKENIZERS)}")
        self.tokenizer = tokenizer or choose_tokenizer(references)
        self.scorer = sacrebleu.BLEU(effective_order=True, tokenize=self.tokenizer)

    def metadata(self) -> dict[str, Any]:
        return {**super().metadata(), "tokenizer": self.tokenizer}

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        score = self.scorer.sentence_score(clean(prediction), [clean(reference)])
        return [
            *map(float, score.counts),
            *map(float, score.totals),
            float(score.sys_len),
            float(score.ref_len),
        ]

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        return bleu(sums, np.full(sums.shape[:-1], ORDER))

    def row_values(self, rows: np.ndarray) -> np.ndarray:
        return bleu(rows, (rows[:, ORDER : 2 * ORDER] > 0).sum(axis=1))


def choose_tokenizer(references: Sequence[str]) -> str:
    """Choose the tokenizer for the script of most letters in the references."""
    letters = count_scripts(references)
    main = next((name for name, _ in letters.most_common(1)), "Latin")
    kana = sum(letters[name] for name in _KANA)
    return "char" if kana and main in ("Han", *_KANA) else _BY_SCRIPT.get(main, "intl")


def bleu(sums: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Compute BLEU over the first `orders` n-gram orders.

    The last axis of `sums` holds the matches of each order, the n-grams of each order, the length
    of the predictions and the length of the references.
    """
    correct = sums[..., :ORDER]
    total = sums[..., ORDER : 2 * ORDER]
    lengths = np.maximum(sums[..., 2 * ORDER :], 1e-9)
    # Orders without a match count as 1/2, 1/4, ... of a match.
    smoothed = np.where(correct > 0, correct, 0.5 ** (correct == 0).cumsum(axis=-1))
    precision = np.log(smoothed / np.maximum(total, 1))
    counted = np.arange(ORDER) < orders[..., None]
    mean = np.where(counted, precision, 0).sum(axis=-1) / np.maximum(orders, 1)
    brevity = np.minimum(1 - lengths[..., 1] / lengths[..., 0], 0)
    defined = (correct > 0).any(axis=-1) & (~counted | (total > 0)).all(axis=-1)
    return np.where(defined, np.exp(brevity + mean), 0.0)
