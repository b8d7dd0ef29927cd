"""Split a text in any script into terms for the BM25 index."""

import unicodedata
from itertools import pairwise

import regex

from stages.core.data.unicode_text import UNSPACED, fold, shorten_marks, unify

# A mark belongs to the letter before it, like the vowel signs of Indic scripts.
_MARKED = r"\p{L}\p{M}\p{N}"
_RUN = regex.compile(rf"(?V1)(?<unspaced>{UNSPACED}+)|[[{_MARKED}]--{UNSPACED}]+")
_CHARACTER = regex.compile(r"\X")
# What some writers use and others omit: joiners, direction marks and Arabic's signs for short vowels.
_OPTIONAL = regex.compile(r"[\p{Cf}\u064b-\u0652\u0670]")
_ALEFS = str.maketrans(
    "\u0622\u0623\u0625\u0671", "\u0627" * 4
)  # as in Lucene's `ArabicNormalizer`


def get_terms(text: str) -> list[str]:
    """Return the words of a text in order, without differences of case, width or keyboard.

    In scripts without spaces between words, a term is a pair of neighbouring characters, as in
    Apache Lucene's `CJKAnalyzer`. A run of a single character is one term. There is no stop word
    list, because BM25 gives little weight to words that occur everywhere, in every language.
    """
    written = shorten_marks(_OPTIONAL.sub("", text))
    compatible = unicodedata.normalize("NFKC", written)  # CO₂ is found by CO2
    folded = unify(fold(compatible)).translate(_ALEFS)
    terms: list[str] = []
    for run in _RUN.finditer(folded):
        terms += _pair(run[0]) if run["unspaced"] else [run[0]]
    return terms


def _pair(run: str) -> list[str]:
    """Return the pairs of neighbouring grapheme clusters, the characters as a reader sees them."""
    characters = _CHARACTER.findall(run)
    return [one + two for one, two in pairwise(characters)] or characters
