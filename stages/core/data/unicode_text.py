"""Text of any script, ready to compare: what looks the same is the same, and words are found in every script."""

import unicodedata
from collections import Counter
from collections.abc import Iterable

import idna
import regex
from fontTools.unicodedata import script, script_name

_VIRAMA = r"\p{Canonical_Combining_Class=Virama}"
# Format characters that show nothing. The tags of flags and the Mongolian vowel separator choose what is shown.
_INVISIBLE = regex.compile(
    r"(?V1)[[\p{Cf}&&\p{Default_Ignorable_Code_Point}]--[\u200c\u200d\u180e\U000e0020-\U000e007f]]"
)
_JOINER = regex.compile(
    rf"(?<joins>(?<={_VIRAMA})\u200d|\u200d(?={_VIRAMA})"
    r"|(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d(?=\p{Extended_Pictographic}))|[\u200c\u200d]"
)
_NEAR = 16  # characters around a joiner that decide whether it means something
# The chillus of Malayalam as they were written before Unicode 5.1 (The Unicode Standard, section 12.9).
_CHILLUS = {
    f"{letter}\u0d4d\u200d": chillu
    for letter, chillu in zip(
        "\u0d23\u0d28\u0d30\u0d32\u0d33\u0d15", "\u0d7a\u0d7b\u0d7c\u0d7d\u0d7e\u0d7f", strict=True
    )
}
_CHILLU = regex.compile("|".join(_CHILLUS))
# Letters of the same word, which keyboards of Arabic, Persian and Urdu give different codes; the tatweel is ornament.
_VARIANTS = str.maketrans(
    "\u064a\u0649\u0643\u06c1\u066b\u066c", "\u06cc\u06cc\u06a9\u0647.,", "\u0640"
)
_OWN_MEANING = ("<super>", "<sub>", "<fraction>")  # 10² is not 102
# Scripts without spaces between words: those whose lines only a dictionary can break, Chinese and Japanese.
UNSPACED = (
    r"[[\p{L}\p{M}\p{N}]&&[\p{Line_Break=SA}\p{scx=Hani}\p{scx=Hira}\p{scx=Kana}\p{scx=Bopo}]]"
)
"""A set of `regex` (V1). `scx` is the extension of a script: with it the long-vowel mark belongs to both kana."""
_WORD = regex.compile(
    rf"(?V1)(?={UNSPACED})\X|(?:(?!{UNSPACED})[\p{{L}}\p{{M}}\p{{N}}\u200c\u200d])+"
)


def clean(text: str) -> str:
    """The text in Unicode's form NFC without characters that show nothing, such as U+200B, soft hyphens and bidi marks.

    The joiners U+200C and U+200D stay where they choose what is shown: beside a virama (Indic scripts), between letters
    that would otherwise join (Persian; both by RFC 5892, appendix A) and in emoji. Malayalam's chillus get their codes.
    """
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    text = _CHILLU.sub(lambda match: _CHILLUS[match[0]], text)
    text = _JOINER.sub(lambda match: match[0] if match["joins"] or _separates(match) else "", text)
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", text))


def fold(text: str) -> str:
    """The text as two texts are compared that may differ in case and in white space: `clean`, in one case."""
    text = " ".join(clean(text).casefold().split())
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def unify(text: str) -> str:
    """The text with one code for each character, whatever its width, its form or the keyboard that it came from.

    That is Unicode's NFKC except for raised and lowered characters and fractions, digits of all scripts as 0 to 9
    with their decimal points and commas, ي and ى as ی, ك as ک, ہ as ه, and no tatweel.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", "".join(map(_unify, text)).translate(_VARIANTS))


def plain_digits(text: str) -> str:
    """The text with the decimal digits of every script as 0 to 9."""
    return text if text.isascii() else "".join(str(unicodedata.decimal(c, c)) for c in text)


def get_words(text: str) -> list[str]:
    """The words of the text, folded: runs of letters, marks and digits.

    In scripts that put no spaces between words (Thai, Lao, Khmer, Burmese, Chinese, Japanese) each character, with the
    marks that belong to it, counts as one.
    """
    return _WORD.findall(fold(text))


def count_scripts(texts: Iterable[str]) -> Counter[str]:
    """How many letters the texts have of each script, by Unicode's names: `Latin`, `Thai`, `Han`, …"""
    letters: Counter[str] = Counter()
    for character, count in Counter("".join(texts)).items():
        if character.isalpha():
            letters[script_name(script(character))] += count
    del letters["Common"], letters["Inherited"]
    return letters


def get_script(text: str) -> str:
    """The script of most letters of the text; `none` where it has no letters."""
    return next((name for name, _ in count_scripts([text]).most_common(1)), "none")


def _separates(match: regex.Match[str]) -> bool:
    """Whether a joiner may stand where it does by RFC 5892."""
    start = max(0, match.start() - _NEAR)
    try:
        return idna.valid_contextj(match.string[start : match.end() + _NEAR], match.start() - start)
    except ValueError:  # beside a control character
        return False


def _unify(character: str) -> str:
    if unicodedata.decomposition(character).startswith(_OWN_MEANING):
        return character
    return plain_digits(unicodedata.normalize("NFKC", character))
