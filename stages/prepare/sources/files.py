"""Read the rows of files, wherever they are and however they are packed."""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from stages.core.config.data import ChecksConfig
from stages.core.errors import UserError, hide_secrets
from stages.core.storage.web import downloaded, get_url_path, is_web_address
from stages.prepare.sources.limits import LimitedFile, LimitedRows
from stages.prepare.sources.local_files import find_local, is_local
from stages.prepare.sources.readers import READERS, TEXT, read_matches
from stages.prepare.sources.rows import Rows


def _unpack_zstd(stream: BinaryIO) -> BinaryIO:
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, "r"), "zstd"))


PACKED: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _unpack_zstd,
}


class FileReader:
    """Reads the rows of files within the limits of `checks`."""

    def __init__(self, lines: re.Pattern[str] | None, checks: ChecksConfig) -> None:
        """Read each line of a text by the pattern `lines`, if there is one."""
        self._lines = lines
        self._checks = checks

    def read(self, pattern: str, shown: str | None = None) -> Rows:
        """Yield the rows of all files that a path, a glob or a URL names.

        Args:
            pattern: The path, the glob or the URL.
            shown: The name of a single file in findings and messages, if it is not the pattern.

        Raises:
            UserError: There is no such file, or one cannot be read to its end.
        """
        if is_web_address(pattern):
            yield from self._read_url(pattern)
            return
        files = _find(pattern)
        for file in files:
            name = PurePosixPath(file.path).name if len(files) > 1 else shown or pattern
            yield from self._read_file(file, name)

    def _read_url(self, url: str) -> Rows:
        """Download a file and read it. A `?` or a `*` in a URL is no glob."""
        shown = hide_secrets(url)
        self._choose(get_url_path(url), shown)  # an unknown extension is told before the download
        with downloaded(url, shown) as path:
            yield from self.read(str(path), shown)

    def _read_file(self, file: Any, name: str) -> Rows:
        reader = self._choose(file.path)
        unpack = PACKED.get(PurePosixPath(file.path).suffix.lower())
        try:
            with file as packed:
                stream = unpack(packed) if unpack else packed
                if name.endswith(".parquet"):  # it tells how large it is, and is read in batches
                    yield from reader(stream, name)
                elif {".json", ".parquet"} & set(PurePosixPath(file.path.lower()).suffixes):
                    whole: Any = LimitedFile(stream, name, self._checks.max_whole_file_bytes)
                    yield from reader(whole, name)
                else:
                    paragraphs = reader is READERS[".txt"]
                    rows: Any = LimitedRows(
                        stream, name, self._checks.max_row_bytes, paragraphs=paragraphs
                    )
                    yield from rows.check(reader(rows, name))
        except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
            # The file is truncated or not compressed at all, or the network failed.
            what = hide_secrets(str(error))
            raise UserError(
                f"{name}: cannot be read to its end: {what}. Check the file and the network."
            ) from None

    def _choose(self, path: str, shown: str | None = None) -> Callable[[BinaryIO, str], Rows]:
        """Choose the reader by the extension of a file."""
        kinds = [
            suffix.lower()
            for suffix in PurePosixPath(path).suffixes
            if suffix.lower() not in PACKED
        ]
        if not kinds or kinds[-1] not in READERS:
            expected = f"expected {', '.join(READERS)}, optionally followed by {', '.join(PACKED)}"
            raise UserError(
                f"{shown or path}: unknown file extension; {expected}; for a folder pass a glob: folder/*.jsonl"
            )
        if self._lines and kinds[-1] in TEXT:
            return partial(read_matches, pattern=self._lines)
        return READERS[kinds[-1]]


def _find(pattern: str) -> list[Any]:
    """Find the files, still closed, of a path, a glob or a URL of a file system."""
    from fsspec import open_files

    try:
        files = find_local(pattern) if is_local(pattern) else open_files(pattern, "rb")
        there = [file for file in files if file.fs.exists(file.path)]
    except ImportError as error:
        s3 = "pip install -c constraints.txt --group s3"
        install = s3 if pattern.startswith("s3:") else str(error)
        raise UserError(f"{pattern}: this URL needs another package: {install}") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{pattern}: cannot be opened (data.source.path): {hide_secrets(str(error))}"
        ) from None
    if not there:
        raise UserError(
            f"{pattern}: there is no such file "
            "(data.source.path is relative to the root of the repository). "
            "A queued or temporary experiment sees only files that git or DVC tracks, "
            "so run `git add` or `dvc add` on the file."
        )
    return there
