"""Read rows from files, globs, URLs, wheels and the Hugging Face Hub."""

import bz2
import gzip
import io
import lzma
import os
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from stages.core.config.data import (
    ChecksConfig,
    DataConfig,
    FileSource,
    HubDataSource,
    SecretUrlSource,
    WheelSource,
)
from stages.core.errors import UserError, hide_secrets
from stages.core.storage.cache import get_sha256
from stages.core.storage.web import downloaded, get_url_path, is_web_address
from stages.core.storage.wheels import get_member
from stages.prepare.sources.hub import get_commit, read_split
from stages.prepare.sources.limits import LimitedFile, LimitedRows
from stages.prepare.sources.local_files import find_local, is_local
from stages.prepare.sources.readers import READERS, TEXT, read_matches
from stages.prepare.sources.rows import Row, Rows


def _unpack_zstd(stream: BinaryIO) -> BinaryIO:
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, "r"), "zstd"))


PACKED: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _unpack_zstd,
}


class Source:
    """Reads the rows of `data.source`. After reading, `facts` identifies the exact source."""

    def __init__(self, data: DataConfig, checks: ChecksConfig) -> None:
        self._checks = checks
        self._source = data.source
        self._lines = re.compile(data.lines) if data.lines else None
        self.metadata: dict[str, Any] = {"kind": data.source.kind}

    def rows(self) -> Rows:
        """Yield every row in order, or a finding in place of a row that cannot be read.

        Raises:
            UserError: If a file or data set does not exist, cannot be read to its end, or has an
                unknown file extension.
        """
        source = self._source
        if isinstance(source, HubDataSource):
            yield from self._read_hub(source)
        elif isinstance(source, WheelSource):
            file = get_member(source)
            self.metadata |= {"sha256": source.sha256, "member": source.member}
            self.metadata |= {"member_sha256": get_sha256(file)} if file.is_file() else {}
            name = PurePosixPath(source.member).name
            yield from _read_files(str(file), name, self._lines, self._checks)
        elif isinstance(source, SecretUrlSource):
            yield from _read_files(_get_url(source), None, self._lines, self._checks)
        else:
            for split, path in _by_split(source.path):
                yield from _given(_read_files(path, None, self._lines, self._checks), split)

    def given_splits(self) -> set[str]:
        """Return the splits that the source names."""
        named = {FileSource: "path", HubDataSource: "split"}.get(type(self._source))
        value = getattr(self._source, named) if named else None
        return set(value) if isinstance(value, Mapping) else set()

    def _read_hub(self, source: HubDataSource) -> Rows:
        commit = get_commit(source)
        self.metadata |= {"id": source.id, "commit": commit}
        for split, name in _by_split(source.split):
            numbered = enumerate(read_split(source, name, commit), start=1)
            yield from _given(
                (Row(f"{source.id}:{name}", n, value) for n, value in numbered), split
            )


def _get_url(source: SecretUrlSource) -> str:
    url = os.environ.get(source.url_env, "").strip()
    if not is_web_address(url):
        raise UserError(
            f"data.source.url_env: set the environment variable {source.url_env} to the URL of the "
            "rows, which begins with https://"
        )
    return url


def _by_split(value: str | Mapping[Any, str]) -> list[tuple[str | None, str]]:
    return list(value.items()) if isinstance(value, Mapping) else [(None, value)]


def _given(rows: Rows, split: str | None) -> Rows:
    for row in rows:
        yield replace(row, split=split) if split and isinstance(row, Row) else row


def _read_url(url: str, lines: re.Pattern[str] | None, checks: ChecksConfig) -> Rows:
    """Download a file and read it. A `?` or a `*` in a URL is no glob."""
    shown = hide_secrets(url)
    _reader(get_url_path(url), lines, shown)  # an unknown extension is told before the download
    with downloaded(url, shown) as path:
        yield from _read_files(str(path), shown, lines, checks)


def _read_files(
    pattern: str, shown: str | None, lines: re.Pattern[str] | None, checks: ChecksConfig
) -> Rows:
    from fsspec import open_files

    if is_web_address(pattern):
        yield from _read_url(pattern, lines, checks)
        return
    try:
        files = find_local(pattern) if is_local(pattern) else open_files(pattern, "rb")
        there = [file for file in files if file.fs.exists(file.path)]
    except ImportError as error:
        install = (
            "pip install -c constraints.txt --group s3" if pattern.startswith("s3:") else str(error)
        )
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
    for file in there:
        name = PurePosixPath(file.path).name if len(there) > 1 else shown or pattern
        yield from _read_file(file, name, lines, checks)


def _read_file(file: Any, name: str, lines: re.Pattern[str] | None, checks: ChecksConfig) -> Rows:
    reader = _reader(file.path, lines)
    unpack = PACKED.get(PurePosixPath(file.path).suffix.lower())
    try:
        with file as packed:
            stream = unpack(packed) if unpack else packed
            if name.endswith(".parquet"):  # it tells how large it is, and is read in batches
                yield from reader(stream, name)
            elif {".json", ".parquet"} & set(PurePosixPath(file.path.lower()).suffixes):
                whole: Any = LimitedFile(stream, name, checks.max_whole_file_bytes)
                yield from reader(whole, name)
            else:
                paragraphs = reader is READERS[".txt"]
                rows: Any = LimitedRows(stream, name, checks.max_row_bytes, paragraphs=paragraphs)
                yield from rows.check(reader(rows, name))
    except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        # The file is truncated or not compressed at all, or the network failed.
        what = hide_secrets(str(error))
        raise UserError(
            f"{name}: cannot be read to its end: {what}. Check the file and the network."
        ) from None


def _reader(
    path: str, lines: re.Pattern[str] | None, shown: str | None = None
) -> Callable[[BinaryIO, str], Rows]:
    kinds = [
        suffix.lower() for suffix in PurePosixPath(path).suffixes if suffix.lower() not in PACKED
    ]
    if not kinds or kinds[-1] not in READERS:
        expected = f"expected {', '.join(READERS)}, optionally followed by {', '.join(PACKED)}"
        raise UserError(
            f"{shown or path}: unknown file extension; {expected}; for a folder pass a glob: folder/*.jsonl"
        )
    if lines and kinds[-1] in TEXT:
        return partial(read_matches, pattern=lines)
    return READERS[kinds[-1]]
