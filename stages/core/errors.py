"""Errors that are shown to the user, and what no shown text may hold: secrets and controls."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

from stages.core.secret_formats import URL_PASSWORD, kinds_of_secrets, mask_secrets

# Repetitions are bounded, because the time for a long text would grow with its square.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s'\"<>`]+")
_USER = re.compile(
    r"//(?:[^\s/?#]{0,2000}@"
    # A password with a slash, a `?` or a `#`: what follows the first colon is not a port.
    r"|[^\s/?#@:]{0,200}:(?!\d{0,5}(?![^\s/?#'\"<>),;\]]))\S{0,2000}@)"
)
_VALUE = re.compile(r"([?&#][^\s=&?#'\"<>]+=)[^\s&#'\"<>]+")
_BARE_QUERY = re.compile(r"(://[^\s?'\"<>]{0,2000}\?)[^\s=&#'\"<>]+(?=[\s&#'\"<>]|$)")
_AUTHORIZATION = re.compile(r"(?i)\b((?:basic|bearer)\s+)[\w.~+/-]{16,}=*")
_SECRET_PARAMETER = re.compile(
    r"(?i)(?:.*[_.-])?(?:\w*token|\w*signature|sig|\w*key|\w*secret|password|passwd|pwd|credential|auth)"
)

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


def hide_secrets(text: str) -> str:
    """Replace each secret of a text with `***`.

    These are the user and the password of a URL, the values of its query, the value of an
    `Authorization` header, and keys in a known format. The names in a query stay.
    """
    text = _USER.sub("//***@", text)
    text = _VALUE.sub(r"\1***", text)
    text = _BARE_QUERY.sub(r"\1***", text)
    text = _AUTHORIZATION.sub(r"\1***", text)
    return mask_secrets(text, "***")


def list_secrets(text: str) -> Iterator[str]:
    """Say in a few words for each secret of a text what it is, without repeating it.

    A query is a secret only if the name of a parameter says so, as in `X-Amz-Signature`.
    """
    for kind in kinds_of_secrets(text):
        if kind != URL_PASSWORD:  # see below
            yield f"a secret ({kind})"
    for url in _URL.findall(text):
        if _USER.search(url) and not re.match(r"(?i)(?:ssh|sftp|git\+ssh|s3)://[^:/@]*@", url):
            yield "the user or password of a URL"
        for name in _list_parameters(url):
            if _SECRET_PARAMETER.fullmatch(name):
                yield f"the parameter {name} of a URL"


def _list_parameters(url: str) -> list[str]:
    """Return the names of the parameters in the query and the fragment of a URL."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket that is not closed
        return []
    return [name for part in (parts.query, parts.fragment) for name, _ in parse_qsl(part)]
