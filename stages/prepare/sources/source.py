"""Read rows from files, globs, URLs, wheels and the Hugging Face Hub."""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from stages.core.config.data import (
    ChecksConfig,
    DataConfig,
    FileSource,
    HubDataSource,
    SecretUrlSource,
    WheelSource,
)
from stages.core.errors import UserError
from stages.core.storage.cache import get_sha256
from stages.core.storage.web import is_web_address
from stages.core.storage.wheels import get_member
from stages.prepare.sources.files import FileReader
from stages.prepare.sources.hub import get_commit, read_split
from stages.prepare.sources.rows import Row, Rows


class Source:
    """Reads the rows of `data.source`. After reading, `facts` identifies the exact source."""

    def __init__(self, data: DataConfig, checks: ChecksConfig) -> None:
        self._files = FileReader(re.compile(data.lines) if data.lines else None, checks)
        self._source = data.source
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
            yield from self._files.read(str(file), name)
        elif isinstance(source, SecretUrlSource):
            yield from self._files.read(_get_url(source))
        else:
            for split, path in _by_split(source.path):
                yield from _given(self._files.read(path), split)

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
