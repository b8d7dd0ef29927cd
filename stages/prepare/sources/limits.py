"""Limit what a reader takes of a file, so that neither a row nor an archive fills the memory."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

from stages.core.errors import UserError
from stages.prepare.findings import Finding

SKIPPED = 1_000_000  # bytes in memory at once of a line that is skipped


class LimitedRows:
    """Gives a reader the lines of a file, with empty lines in place of rows that are too large.

    A row is a line, or all lines of a paragraph or of a row of a table, until the reader yields.
    """

    def __init__(self, stream: Any, name: str, limit: int, *, paragraphs: bool) -> None:
        """Limit each row to this many bytes. Only a blank line ends a row of `paragraphs`."""
        self._stream = io.BufferedReader(stream)
        self._name = name
        self._limit = limit
        self._paragraphs = paragraphs
        self._line = 0
        self._first = 0  # the line at which the row begins
        self._bytes = 0  # of the row so far
        self._dropping = False  # whether the rest of a paragraph belongs to a row that is too large
        self._found: list[tuple[int, int]] = []
        """The first line of each row that is too large, and the line at which it became so."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines."""
        while line := self._stream.readline(self._limit + 1):
            self._line += 1
            if not line.strip():
                self._dropping = False
            elif self._is_too_large(line):
                self._skip(line)
                line = b"\n"
            yield line

    def _is_too_large(self, line: bytes) -> bool:
        if self._dropping:
            return True
        if len(line) > self._limit or not self._bytes:
            self._first = self._line
        self._bytes += len(line)
        if self._bytes <= self._limit:
            return False
        if not self._found or self._found[-1][0] != self._first:
            self._found.append((self._first, self._line))
        if len(line) > self._limit:  # alone, so the next line may begin a row
            self._bytes = 0
        self._dropping = self._paragraphs
        return True

    def _skip(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self._stream.readline(SKIPPED)

    def check(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield what the reader yields, with a finding in place of each row that is too large."""
        for item in items:
            last = self._found[-1][1] if self._found else 0
            yield from self._report()
            if item.line > last:
                yield item
            self._bytes = 0
        yield from self._report()

    def _report(self) -> list[Finding]:
        found = [too_large(self._name, first, self._limit) for first, _ in self._found]
        self._found = []
        return found


class LimitedFile:
    """Gives a reader a file that it takes whole."""

    def __init__(self, stream: Any, name: str, limit: int) -> None:
        """Limit the file to this many bytes."""
        self._stream = io.BufferedReader(stream)
        self._name = name
        self._limit = limit

    def read(self) -> bytes:
        """Read the file.

        Raises:
            UserError: The file has more bytes than the limit.
        """
        content = self._stream.read(self._limit + 1)
        if len(content) > self._limit:
            raise UserError(
                f"{self._name}: the file has more than {self._limit:,} bytes, unpacked, and a file "
                "of this kind is read whole. Write it as .jsonl with one row per line, or raise "
                "checks.max_whole_file_bytes."
            )
        return content

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines."""
        yield from io.BytesIO(self.read())


def too_large(file: str, line: int, limit: int) -> Finding:
    """Build the finding about a row that is too large."""
    what = f"a row of more than {limit:,} bytes (checks.max_row_bytes)"
    todo = "split the row or remove it, or raise checks.max_row_bytes"
    return Finding("too_many_bytes", file, line, "", what, todo)
