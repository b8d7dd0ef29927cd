"""Normalization of text in any script, so that texts that look the same compare as equal.

Words are also found in scripts that put no spaces between them.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable

import regex
from fontTools.unicodedata import script, script_name

_MARKS = regex.compile(r"\P{ccc=0}{30}\K\P{ccc=0}+")
_VIRAMA = r"\p{Canonical_Combining_Class=Virama}"
# Invisible format characters. The tags of flags and the Mongolian vowel separator are excluded
# because they change what is shown.
_INVISIBLE = regex.compile(
    r"(?V1)[[\p{Cf}&&\p{Default_Ignorable_Code_Point}]--[\u200c\u200d\u180e\U000e0020-\U000e007f]]"
)
# The last alternative is the second rule of RFC 5892, appendix A.1: between letters that would
# otherwise join.
_JOINER = regex.compile(
    rf"(?V1)(?<joins>(?<={_VIRAMA})[\u200c\u200d]|\u200d(?={_VIRAMA})"
    r"|(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d(?=\p{Extended_Pictographic})"
    r"|(?<=[\p{jt=L}\p{jt=D}]\p{jt=T}{0,15})\u200c(?=\p{jt=T}{0,15}[\p{jt=R}\p{jt=D}]))"
    r"|[\u200c\u200d]"
)
# The chillus of Malayalam as they were written before Unicode 5.1 (The Unicode Standard, section
# 12.9).
_CHILLUS = {
    f"{letter}\u0d4d\u200d": chillu
    for letter, chillu in zip(
        "\u0d23\u0d28\u0d30\u0d32\u0d33\u0d15", "\u0d7a\u0d7b\u0d7c\u0d7d\u0d7e\u0d7f", strict=True
    )
}
_CHILLU = regex.compile("|".join(_CHILLUS))
# Keyboards of Arabic, Persian and Urdu give different codes to the same letters of a word. The
# tatweel is only an ornament.
_VARIANTS = str.maketrans(
    "\u064a\u0649\u0643\u06c1\u066b\u066c", "\u06cc\u06cc\u06a9\u0647.,", "\u0640"
)
_OWN_MEANING = ("<super>", "<sub>", "<fraction>")  # 10² is not 102
# Scripts without spaces between words are Chinese, Japanese, and those whose lines only a
# dictionary can break.
UNSPACED = (
    r"[[\p{L}\p{M}\p{N}]&&[\p{Line_Break=SA}\p{scx=Hani}\p{scx=Hira}\p{scx=Kana}\p{scx=Bopo}]]"
)
"""The characters of scripts without spaces between words, as a set of `regex` (V1).

`scx` means script extensions. With it the long-vowel mark belongs to both kana.
"""
_WORD = regex.compile(
    rf"(?V1)(?={UNSPACED})\X|(?:(?!{UNSPACED})[\p{{L}}\p{{M}}\p{{N}}\u200c\u200d])+"
)
_RUN = regex.compile(rf"(?V1)(?<unspaced>{UNSPACED}[{UNSPACED}\p{{M}}]*)|[\S--{UNSPACED}]+")
_CHARACTER = regex.compile(r"\X")
_LONGEST = 40  # characters of a word
_PART = regex.compile(r"(?V1)[\p{L}\p{M}\p{N}\u200c\u200d]+|\S")


def clean(text: str) -> str:
    """Normalize a text to NFC and remove invisible characters, such as U+200B and soft hyphens.

    Bidi marks are removed too. The joiners U+200C and U+200D stay where they change what is shown.
    These places are beside a virama (Indic scripts), between letters that would otherwise join
    (Persian), and in emoji. The first two follow RFC 5892, appendix A. Malayalam's chillus get
    their own codes.
    """
    if text.isascii():
        return text
    text = _compose(text)
    text = _CHILLU.sub(lambda match: _CHILLUS[match[0]], text)
    text = _JOINER.sub(lambda match: match[0] if match["joins"] else "", text)
    return _compose(_INVISIBLE.sub("", text))


def shorten_marks(text: str) -> str:
    """Cut runs of combining marks to 30, the most that any language needs (UAX #15, stream-safe).

    A normalization sorts each run, which takes time that is quadratic in its length.
    """
    return text if text.isascii() else _MARKS.sub("", text)


def fold(text: str) -> str:
    """Clean a text and normalize its case and white space, for comparisons that ignore both."""
    text = " ".join(clean(text).casefold().split())
    return text if text.isascii() else _compose(text)


def unify(text: str) -> str:
    """Give each character one code, whatever its width, its form or the keyboard that typed it.

    The text is normalized to NFKC, except for superscripts, subscripts and fractions. Digits of all
    scripts become 0 to 9, and their decimal and thousands separators become a point and a comma. ي
    and ى become ی, ك becomes ک, ہ becomes ه, and the tatweel is removed.
    """
    if text.isascii():
        return text
    return _compose(text.translate(_FORMS))


def plain_digits(text: str) -> str:
    """Replace the decimal digits of every script by 0 to 9."""
    return text if text.isascii() else "".join(str(unicodedata.decimal(c, c)) for c in text)


def get_words(text: str) -> list[str]:
    """Fold a text and split it into words, which are runs of letters, marks and digits.

    In scripts that put no spaces between words (Thai, Lao, Khmer, Burmese, Chinese, Japanese) each
    character, together with its marks, counts as one word.
    """
    return _WORD.findall(fold(text))


def split_text(text: str) -> list[str]:
    """Split a text at white space and between the characters of scripts without spaces.

    In contrast to `get_words` nothing but white space is left out, so that `3 + 5` differs from
    `3 - 5`. A longer run than any word, such as a link or JSON, is split into its words and signs.
    """
    if text.isascii():
        return [part for word in text.split() for part in _split_long(word)]
    tokens: list[str] = []
    for run in _RUN.finditer(text):
        tokens += _CHARACTER.findall(run[0]) if run["unspaced"] else _split_long(run[0])
    return tokens


def count_scripts(texts: Iterable[str]) -> Counter[str]:
    """Count the letters of each script by Unicode's names, such as `Latin`, `Thai` and `Han`."""
    letters: Counter[str] = Counter()
    for character, count in Counter("".join(texts)).items():
        if character.isalpha():
            letters[script_name(script(character))] += count
    del letters["Common"], letters["Inherited"]
    return letters


def get_script(text: str) -> str:
    """Return the script of most letters of a text, or `none` if it has no letters."""
    return next((name for name, _ in count_scripts([text]).most_common(1)), "none")


class _Forms(dict[int, str]):
    """The one code of each character, computed when `str.translate` first meets the character."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if not unicodedata.decomposition(character).startswith(_OWN_MEANING):
            character = plain_digits(unicodedata.normalize("NFKC", character))
        self[code] = character.translate(_VARIANTS)
        return self[code]


_FORMS = _Forms()


def _compose(text: str) -> str:
    return unicodedata.normalize("NFC", shorten_marks(text))


def _split_long(word: str) -> list[str]:
    return _PART.findall(word) if len(word) > _LONGEST else [word]
