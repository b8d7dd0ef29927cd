"""Split a text in any script into terms for the BM25 index."""

import unicodedata
from itertools import pairwise

import regex

from stages.core.data.unicode_text import UNSPACED

# A mark belongs to the letter before it, like the vowel signs of Indic scripts.
_MARKED = r"\p{L}\p{M}\p{N}"
_RUN = regex.compile(rf"(?V1)(?<unspaced>{UNSPACED}+)|[[{_MARKED}]--{UNSPACED}]+")
_CHARACTER = regex.compile(r"\X")
# Joiners and direction marks, which some writers use and others omit.
_INVISIBLE = regex.compile(r"\p{Cf}")


def get_terms(text: str) -> list[str]:
    """Return the words of a text in order, normalized by NFKC and case folding.

    In scripts without spaces between words, a term is a pair of neighbouring characters, as in
    Apache Lucene's `CJKAnalyzer`. A run of a single character is one term. There is no stop word
    list, because BM25 gives little weight to words that occur everywhere, in every language.
    """
    folded = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
    terms: list[str] = []
    for run in _RUN.finditer(folded):
        terms += _pair(run[0]) if run["unspaced"] else [run[0]]
    return terms


def _pair(run: str) -> list[str]:
    """Return the pairs of neighbouring grapheme clusters, the characters as a reader sees them."""
    characters = _CHARACTER.findall(run)
    return [one + two for one, two in pairwise(characters)] or characters
