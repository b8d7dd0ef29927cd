"""Compute ROUGE from the words or word sequences that prediction and reference share."""

from collections.abc import Sequence
from typing import Any

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

from stages.core.data.unicode_text import fold, get_words
from stages.core.metrics.row_metric import RowMetric

ROUGE_TYPES = ("rougeL", "rouge1", "rouge2")


class AllScripts(Tokenizer):
    """Splits a text of any script into words.

    For texts in the letters a to z, the words are the same as those of rouge-score.
    """

    def tokenize(self, text: str) -> list[str]:
        """Split a text with `get_words`."""
        return get_words(text)


TOKENIZERS = {"unicode": AllScripts, "rouge_score": DefaultTokenizer}


class Rouge(RowMetric):
    """Averages the ROUGE F1 (Lin, 2004) of the rows, as the package rouge-score computes it.

    Words are runs of letters and digits. In scripts without spaces between words, such as Thai and
    Chinese, each character is a word. ROUGE then compares characters, and chrf is the better
    choice. A row whose target has too few words for `kind` scores 1 if the answer is the target and
    0 otherwise.

    Options:
        kind: `rougeL` (the longest common subsequence, the default), `rouge1` (words) or `rouge2`
            (pairs of words).
        tokenizer: `unicode` (the default) or `rouge_score`. The latter is the tokenizer of the
            package, which knows only the letters a to z and digits and splits words at any other
            character. Use it to compare with published scores of English texts.
    """

    advice = "set +evaluate.options.rouge.tokenizer=unicode, or choose chrf, which needs no words"
    tokenizer = "unicode"

    def prepare(
        self, references: Sequence[str], kind: str = "rougeL", tokenizer: str = "unicode"
    ) -> None:
        for name, given, known in (
            ("kind", kind, ROUGE_TYPES),
            ("tokenizer", tokenizer, tuple(TOKENIZERS)),
        ):
            if given not in known:
                raise ValueError(f"unknown {name} {given}; choose from {', '.join(known)}")
        self.kind = kind
        self.tokenizer = tokenizer
        self.tokenize = TOKENIZERS[tokenizer]()
        self.scorer = RougeScorer([kind], tokenizer=self.tokenize)

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        if self.tokenizer == "unicode" and len(self.tokenize.tokenize(reference)) < 1 + (
            self.kind == "rouge2"
        ):
            return float(fold(prediction) == fold(reference)), 1.0
        return self.scorer.score(reference, prediction)[self.kind].fmeasure, 1.0

    def metadata(self) -> dict[str, Any]:
        return {**super().metadata(), "tokenizer": self.tokenizer}
