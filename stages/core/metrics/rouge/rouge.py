"""ROUGE: the words, pairs of words or longest common subsequence that prediction and reference share."""

from collections.abc import Sequence
from typing import Any

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

from stages.core.data.unicode_text import fold, get_words
from stages.core.metrics.row_metric import RowMetric

KINDS = ("rougeL", "rouge1", "rouge2")


class AllScripts(Tokenizer):
    """Words of every script; of a text of the letters a to z the same as those of rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        """See `get_words`."""
        return get_words(text)


TOKENIZERS = {"unicode": AllScripts, "rouge_score": DefaultTokenizer}


class Rouge(RowMetric):
    """The mean over the rows of each row's ROUGE F1 (Lin, 2004), as the package rouge-score computes it.

    Words are runs of letters and digits; in scripts without spaces between words, such as Thai and Chinese, each
    character is one, which makes ROUGE a score of characters there: chrf is the better choice. A row whose target has
    too few words for `kind` scores 1 where the answer is the target and 0 otherwise.

    Options:
        kind: `rougeL`, the longest common subsequence, by default; `rouge1`, words; `rouge2`, pairs of words.
        tokenizer: `unicode`, by default; `rouge_score` takes that of the package, which knows the letters a to z and
            digits alone and splits words at any other: for comparison with published numbers of English texts.
    """

    advice = "set evaluate.options.rouge.tokenizer=unicode, or choose chrf, which needs no words"
    tokenizer = "unicode"

    def prepare(
        self, references: Sequence[str], kind: str = "rougeL", tokenizer: str = "unicode"
    ) -> None:
        for name, given, known in (
            ("kind", kind, KINDS),
            ("tokenizer", tokenizer, tuple(TOKENIZERS)),
        ):
            if given not in known:
                raise ValueError(f"unknown {name} {given}; there are {', '.join(known)}")
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

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "tokenizer": self.tokenizer}
