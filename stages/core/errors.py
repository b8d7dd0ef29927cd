"""Errors that are shown to the user, and what must not be shown as it is: passwords and controls."""

import re

# What a terminal obeys or does not show, in Unicode's categories: Cc except line feed and tab, Zl,
# Zp, Cs, and Cf except the joiners, which have a meaning in Persian, Indic scripts and emoji, and
# the signs of Arabic and Kaithi numbers, which are visible.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u070f\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)


class UserError(Exception):
    """A mistake that the user can correct.

    The text says what was wrong, where, and what to do. Stages print only the text and exit with
    status 1. Every other exception is a defect of Tuneproof and keeps its traceback.
    """


def printable(text: str) -> str:
    r"""Escape what a terminal obeys or does not show, as in `\x1b[31m` and `\u202e`.

    Texts of rows, of models and of servers can contain sequences that clear the screen, write to
    the clipboard or reverse a line. Line feeds and tabs stay.
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    r"""Escape as `printable` does, and line feeds and tabs too, so that no text forges a line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def hide_passwords(text: str) -> str:
    """Replace the user and password of every URL in a text with `***`."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)
