"""Find numbers in texts, in the digits of any script."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import regex

from stages.core.data.unicode_text import clean, fold, plain_digits

# Words that multiply the number before them, in English, German, French, Spanish, Russian, Arabic,
# Urdu, Hindi, Telugu, Malayalam, Thai, Chinese and Japanese.
_SIZES = {
    10**2: "hundred hundert ร้อย 百",
    10**3: "thousand tausend mille тыс тысяч тысяча тысячи "
    "ألف آلاف ہزار हज़ार हजार వేలు వేల ആയിരം พัน 千",
    10**4: "หมื่น 万 萬",
    10**5: "lakh lakhs لاکھ लाख లక్ష లక్షలు లక్షల ലക്ഷം แสน",
    10**6: "million millions millionen mn mio millón millones "
    "млн миллион миллиона миллионов مليون ملايين ملین मिलियन ล้าน",
    10**7: "crore crores کروڑ करोड़ కోటి కోట్లు కోట్ల കോടി",
    10**8: "億 亿",
    10**9: "billion billions bn mrd milliarde milliarden milliard milliards "
    "млрд миллиард миллиарда миллиардов مليار ارب अरब พันล้าน",
    10**12: "trillion trillions tn billionen триллион триллиона триллионов трлн ล้านล้าน 兆",
}
_MAGNITUDES = {fold(word): size for size, words in _SIZES.items() for word in words.split()}
_ATTACHED = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}  # as in $5M
_MAGNITUDE = "|".join(sorted(map(regex.escape, _MAGNITUDES), key=len, reverse=True))
_GAPS = " \u00a0\u2009\u202f"  # spaces between thousands, including thin ones
_NUMBER = regex.compile(
    r"(?<![\p{Latin}\p{Greek}\p{Cyrillic}\p{N}_])"  # Q3 is not a number
    # A hyphen between digits is not a sign.
    r"(?<sign>(?<![\p{Latin}\p{Greek}\p{Cyrillic}\p{N})])[-−–+])?\p{Sc}?"
    rf"(?<digits>[.,]?\d+(?:[.,'’]\d+|[{_GAPS}]\d{{3}}(?!\d))*\p{{No}}*)"
    r"(?:(?:[eE]|\s?[x×*·]\s?10(?:\^|\*\*))(?<exponent>[-−+]?\d+))?"
    r"(?:(?<attached>[kKMBT])(?![\p{L}\p{N}])"
    rf"|\s?(?<magnitude>(?i:{_MAGNITUDE}))(?![\p{{Latin}}\p{{Cyrillic}}\p{{Arabic}}\p{{M}}]))?"
    r"(?<percent>\s?[%٪])?"
)
_MARKED = regex.compile(r"####(?<found>.*)|\\boxed\{(?<found>[^{}]*)\}")


class Number(NamedTuple):
    """A number found in a text."""

    value: float
    """The value, or NaN if the digits, points and commas form no number.

    Examples are 1.2.3, and 1,5 if the decimal separator is a point.
    """
    percent: bool
    text: str


def find_numbers(text: str, decimal: str) -> list[Number]:
    """Find the numbers in a text.

    If the text marks its result with `####` or `\\boxed{}`, only the last such mark counts.

    Args:
        text: A text in any script.
        decimal: The decimal separator, `.` or `,`. The other one separates thousands.
    """
    text = plain_digits(clean(text)).translate(
        {0x066B: decimal, 0x066C: "." if decimal == "," else ",", 0xFF0E: "."}
    )
    marked = [match["found"] for match in _MARKED.finditer(text)]
    return [_read(match, decimal) for match in _NUMBER.finditer(marked[-1] if marked else text)]


def is_only(numbers: Sequence[Number]) -> bool:
    """Check whether there is exactly one distinct number."""
    return len({(number.value, number.percent) for number in numbers}) == 1


def _read(match: regex.Match[str], decimal: str) -> Number:
    point = regex.escape(decimal)
    comma = regex.escape("." if decimal == "," else ",")
    thousands = (
        rf"\d{{1,3}}([{comma}'’{_GAPS}])\d{{3}}(?:\1\d{{3}})*"
        rf"|\d{{1,2}}(?:{comma}\d\d)+{comma}\d{{3}}"
    )
    if not regex.fullmatch(rf"(?:{thousands}|\d+)(?:{point}\d+)?|{point}\d+", match["digits"]):
        return Number(math.nan, False, match[0])
    digits = regex.sub(rf"[^\d{point}]", "", match["digits"]).replace(decimal, ".")
    exponent = f"e{match['exponent'].replace('−', '-')}" if match["exponent"] else ""
    value = float(digits + exponent) * _get_magnitude(match)
    return Number(
        -value if match["sign"] in ("-", "−", "–") else value, bool(match["percent"]), match[0]
    )


def _get_magnitude(match: regex.Match[str]) -> int:
    return _ATTACHED.get(match["attached"] or "") or _MAGNITUDES.get(
        fold(match["magnitude"] or ""), 1
    )
