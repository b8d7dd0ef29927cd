"""Read the lines of a file of text, and say how to convert a file that is not UTF-8."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, BinaryIO

from stages.prepare.findings import Finding
from stages.prepare.sources.commands import convert
from stages.prepare.sources.rows import Rows

BOM = b"\xef\xbb\xbf"
# The longer marks come first, because UTF-32's begins with UTF-16's. Without a mark, the zero bytes
# around the first character tell, which is a letter, a bracket or a quote in every format.
STARTS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
ZEROS = {
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
    (False, True): "UTF-16LE",
    (True, False): "UTF-16BE",
}


class WrongEncodingError(Exception):
    """A whole file is in another encoding. Its only argument is the finding."""


def text_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each line, the first without its byte order mark.

    Raises:
        WrongEncodingError: The file is UTF-16 or UTF-32.
    """
    for number, line in enumerate(stream, start=1):
        if number == 1 and (codec := _guess(line)):
            raise WrongEncodingError(_convert(name, codec))
        yield number, line.removeprefix(BOM) if number == 1 else line


def reports_encoding(reader: Callable[..., Rows]) -> Callable[..., Rows]:
    """Make a reader of text yield the finding when the whole file is in another encoding."""

    @wraps(reader)
    def read(*args: Any, **kwargs: Any) -> Rows:
        try:
            yield from reader(*args, **kwargs)
        except WrongEncodingError as wrong:
            yield wrong.args[0]

    return read


def decode(text: bytes, name: str, first: int) -> str | Finding:
    """Decode a text that begins at line `first` as UTF-8, or build the finding about it."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError as wrong:
        return not_utf8(name, first, text, wrong)
    if "\ufeff" not in decoded:
        return decoded
    lines = decoded.split("\n")
    marked = next((i for i, line in enumerate(lines) if line.startswith("\ufeff")), None)
    if marked is None:
        return decoded
    what = "a byte order mark within the file, as if two files were joined"
    return Finding("encoding", name, first + marked, "", what, "join the files without their marks")


def not_utf8(name: str, first: int, text: bytes, error: UnicodeDecodeError) -> Finding:
    """Build the finding about the first invalid byte of a text that begins at line `first`."""
    line = first + text.count(b"\n", 0, error.start)
    byte = error.start - text.rfind(b"\n", 0, error.start)
    return Finding(
        "encoding", name, line, "", f"byte {byte} is not valid UTF-8", "save the file as UTF-8"
    )


def _guess(head: bytes) -> str | None:
    """Return the name by which iconv knows the encoding of a file that begins so, or None."""
    if codec := next((codec for mark, codec in STARTS if head.startswith(mark)), None):
        return codec
    zeros = tuple(byte == 0 for byte in head[:4])
    return ZEROS.get(zeros) or ZEROS.get(zeros[:2])


def _convert(name: str, codec: str) -> Finding:
    todo = f"convert it: {convert(name, f'iconv -f {codec} -t UTF-8', 'utf-8')}"
    return Finding("encoding", name, 1, "", f"the file looks like {codec}", todo)
