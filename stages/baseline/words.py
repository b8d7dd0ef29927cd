"""The terms of a text in any script, for an index of words."""

import unicodedata
from itertools import pairwise

import regex

from stages.core.data.unicode_text import UNSPACED

_MARKED = r"\p{L}\p{M}\p{N}"  # a mark belongs to the letter before it, as the vowel signs of Indic scripts do
_RUN = regex.compile(rf"(?V1)(?<unspaced>{UNSPACED}+)|[[{_MARKED}]--{UNSPACED}]+")
_CHARACTER = regex.compile(r"\X")
_INVISIBLE = regex.compile(
    r"\p{Cf}"
)  # joiners and marks of direction, which some writers set and others leave out


def get_terms(text: str) -> list[str]:
    """The words of a text, in its order, alike in spelling (NFKC, case folded).

    In scripts that put no spaces between words a term is a pair of neighbouring characters, as search engines do it
    (`CJKAnalyzer` of Apache Lucene), or the one character of a run that has no other. There are no stop words: in every
    language BM25 itself gives little weight to the words that are everywhere.
    """
    folded = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
    terms: list[str] = []
    for run in _RUN.finditer(folded):
        terms += _pair(run[0]) if run["unspaced"] else [run[0]]
    return terms


def _pair(run: str) -> list[str]:
    """Pairs of neighbouring characters as a reader sees them (grapheme clusters)."""
    characters = _CHARACTER.findall(run)
    return [one + two for one, two in pairwise(characters)] or characters
