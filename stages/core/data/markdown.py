"""Write texts of rows, models and users into Markdown, where they have no markup and load nothing."""

import re

from stages.core.errors import printable

# An underscore inside a word has no meaning in CommonMark.
_MARKUP = re.compile(r"[&<>|`*\[\]#~\\$]|:(?=//)|^[-+=]|(?<![^\W_])_|_(?![^\W_])")
_LINK = re.compile(r"(?i)\bwww\.")  # GitHub makes a link of it


def escape_markdown(text: object) -> str:
    """Escape a text for a cell or a sentence, on one line, so that it mentions nobody either.

    Every sign that Markdown or HTML could obey becomes a character reference, which is shown as the
    sign. Controls are written as in `\\x1b`, see `stages.core.errors.printable`.
    """
    plain = printable(" ".join(str(text).split()))
    escaped = _MARKUP.sub(lambda match: f"&#{ord(match[0])};", plain)
    return _LINK.sub(lambda match: f"{match[0][:-1]}&#46;", escaped).replace("@", "@&#8203;")


def as_code_block(text: str) -> str:
    """Write a text of several lines as an indented code block, which nothing in it can end.

    An empty line must stand above it.
    """
    return "\n".join(f"    {printable(line)}" for line in text.splitlines())
