"""Answered chats in the record format, from which tomorrow's test rows can be chosen."""

import errno
import os
from pathlib import Path
from typing import Any

from stages.core.data.records import Message, Record
from stages.core.errors import UserError, hide_secrets

MODE = 0o600


class RequestLog:
    """A file of records, one JSON object a line, which only its owner may read."""

    def __init__(self, path: Path) -> None:
        """Open the file to append to it.

        Raises:
            UserError: It cannot be opened.
        """
        self._torn = b""
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, MODE)
            if path.is_file():  # it may have been there before
                os.fchmod(self._file, MODE)
        except OSError as error:
            raise UserError(f"log_requests: {path} cannot be written: {error.strerror}") from None

    def write(self, messages: list[Message], answer: str, meta: dict[str, Any]) -> None:
        """Append a chat, without secrets. Its target is what the model wrote, right or wrong.

        Raises:
            OSError: The file cannot be written.
        """
        said = [{key: hide_secrets(text) for key, text in each.items()} for each in messages]
        last = {"role": "assistant", "content": hide_secrets(answer)}
        line = self._torn + Record.of([*said, last], meta=meta).dump()
        # A single call, so that lines of several processes do not mix.
        written = os.write(self._file, line)
        # A disk that fills up takes a part of a line. The next line must not continue it.
        self._torn = b"\n" if written < len(line) else b""
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
