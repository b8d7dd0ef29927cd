"""Marks around the control tokens in a text, which a chat template passes through."""

import re
from collections.abc import Iterator, Sequence

# Two characters that Unicode reserves for a program's own use and that no text should contain.
START = "\ufdd0"
END = "\ufdd1"
# A mark without its partner comes from a template that cut a text in two. It still divides the
# text, so that two halves cannot be joined to a control token.
_PIECES = re.compile(f"{START}([{START}{END}]|[^{START}{END}]+){END}|[{START}{END}]")
_MARKS = re.compile(f"[{START}{END}]")
_LIKE_MARKS = re.compile(rf"[{START}{END}]|\\ufdd[01]")


def mark_places(text: str, places: Sequence[tuple[int, int]]) -> str:
    """Put marks around places of a text, and around marks that the text itself contains.

    An escape of a mark (see `restore`) is divided by a mark.
    """
    if not places and not _LIKE_MARKS.search(text):
        return text

    def escape(found: re.Match[str]) -> str:
        return f"{START}{found[0]}{END}" if len(found[0]) == 1 else f"\\{START}{found[0][1:]}"

    parts = []
    done = 0
    for start, end in [*places, (len(text), len(text))]:
        parts.append(_LIKE_MARKS.sub(escape, text[done:start]))
        parts.append(f"{START}{text[start:end]}{END}" if start < end else "")
        done = end
    return "".join(parts)


def is_marked(text: str) -> bool:
    """Tell whether a text contains marks."""
    return _MARKS.search(text) is not None


def restore(rendered: str) -> str:
    """Restore the marks that a template has written as escapes of JSON or Python."""
    if r"\ufdd" not in rendered:
        return rendered
    return rendered.replace(r"\ufdd0", START).replace(r"\ufdd1", END)


def unmark(text: str) -> str:
    """Return a text without the marks, to be shown."""
    return "".join(piece for piece, _ in split_marked(text))


def split_marked(text: str) -> Iterator[tuple[str, bool]]:
    """Split a marked text into its pieces, with whether each is marked."""
    for i, piece in enumerate(_PIECES.split(text)):
        if piece:
            yield piece, i % 2 == 1
