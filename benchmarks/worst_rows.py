"""Measure what the worst rows cost in each check of `prepare`, in milliseconds of one core a row.

    python -m benchmarks.worst_rows            # rows of 1 MB
    python -m benchmarks.worst_rows 100000     # rows of so many bytes

Each row is an attempt to make a check slow. Prints a table with a line for each row and a column for
each check, and ends with status 1 if a number is above the limit. The numbers are larger on a
machine that does other work. The tokenizer is that of the default model if its files are in the
cache, otherwise that of the model `tiny-random`.

The columns are:

- `jsonl`, `json`, `csv`, `parquet`, `text`: reading a file of this format with the row
- `checks`: the checks of a row and its conversion to a record
- `secrets`: the search for secrets in all texts of the row
- `equal`: the hash for duplicates, and the choice of the split
- `near`: the signature of the row, and its exact comparison with an equal one; half of the time that
  both take
- `tokens`: the chat template, the tokenizer and the limit of tokens, with the action `truncate`
- `preview`: the row in the terminal's and the page's preview, which show a few rows of a data set
- `targets`: the row's text as a target, whose entities are looked for
- `tags`: as many of the row's words as may be, with a tag each

A row of more than 20,000 keys and values is refused, so it reaches few checks. The rows "at the
limit" have as many as may be.
"""

import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from hydra import compose, initialize_config_dir

from benchmarks.table import show
from benchmarks.worst_row_values import ANSWER, make_rows
from stages.core.config.schema import Config, parse
from stages.core.data.entities import find_kinds
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.models.base_models import get_base_tokenizer
from stages.core.models.loading import get_tokenizer
from stages.prepare.bio_tags import read_tagged
from stages.prepare.checks import check_sample, find_secrets
from stages.prepare.findings import Finding
from stages.prepare.formats import FORMATS, detect
from stages.prepare.preview import Preview
from stages.prepare.reading import Placed
from stages.prepare.similarity.duplicates import DuplicateFilter
from stages.prepare.similarity.near_duplicates import NearDuplicates
from stages.prepare.sources.json_values import PARTS, find_unusable
from stages.prepare.sources.readers import READERS
from stages.prepare.sources.rows import Header, Row
from stages.prepare.split import Splitter
from stages.prepare.splits import ORDER, SplitFiles
from stages.prepare.tokens import TokenCheck

SIZE = 1_000_000  # bytes of a row
LIMIT = 200  # milliseconds of a row in one check
ROWS = {"near": 2, "preview": 2}  # that a check looks at in one call, if not one
REPEATS = 3  # the fastest counts, because other processes disturb the others
OPTIONS = ("data=chat-jsonl", "data.source.path=rows.jsonl", "checks=lenient", "checks.secret=warn")


def get_tokenizer_of_default(config: Callable[..., Config]) -> tuple[str, Any]:
    """Return the name and the tokenizer of the default model, or of the tiny one without a cache."""
    for options in ((), ("model=tiny-random",)):
        settings = config(*options)
        try:
            return settings.model.name, get_tokenizer(get_base_tokenizer(settings.model))
        except (UserError, OSError) as error:
            print(f"{settings.model.name}: {error}")  # noqa: T201
    raise UserError("there is no tokenizer")


def compose_config(*options: str) -> Config:
    """Compose the configuration of the checks."""
    with initialize_config_dir(str(Path("conf").absolute()), version_base="1.3"):
        return parse(compose("config", overrides=[*OPTIONS, *options]))


def read(extension: str, content: bytes) -> list[Row | Finding | Header]:
    """Read the rows of a file."""
    return list(READERS[extension](io.BytesIO(content), f"rows{extension}"))


def make_files(row: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the reading of the row from each format that can hold it."""
    import pyarrow
    from pyarrow.parquet import write_table

    line = orjson.dumps(row)
    text = "\n".join(str(message.get("content")) for message in row.get("messages", []))
    cell = text.replace('"', '""')
    yield "jsonl", partial(read, ".jsonl", line)
    yield "json", partial(read, ".json", b"[" + line + b"]")
    yield "csv", partial(read, ".csv", f'text,label\n"{cell}",a\n'.encode())
    yield "text", partial(read, ".txt", text.encode())
    file = io.BytesIO()
    write_table(pyarrow.table({"text": [text], "row": [line]}), file)
    yield "parquet", partial(read, ".parquet", file.getvalue())


def check(row: dict[str, Any]) -> Record | None:
    """Convert a row to a record, with all checks of single rows except the one for secrets."""
    if find_unusable(row):
        return None
    name = detect(row)
    found = FORMATS[name].convert(row) if name else None
    return check_sample(Row("rows.jsonl", 1, row), found, {})[0] if found else None


def make_checks(
    row: dict[str, Any], settings: Config, tokenizer: Any, folder: Path
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the checks that the row reaches, each with a name."""
    yield from make_files(row)
    yield "checks", partial(check, row)
    yield "secrets", lambda: find_secrets(Row("rows.jsonl", 1, row), row.items())
    record = check(row)
    if record is None:
        return
    files = SplitFiles(folder)
    files.write([Placed(record, "train", "rows.jsonl", 1)] * 2)

    def equal() -> None:
        DuplicateFilter().check(record, "train", "rows.jsonl", 1)
        Splitter(settings.data.split, settings.seed, set()).choose(record, None)

    def near() -> None:
        found = NearDuplicates(settings.checks.near_duplicate_threshold, settings.seed, files)
        found.add([record, record])
        found.find(np.zeros(len(ORDER), bool))

    token_check = TokenCheck(settings, tokenizer, ends=())

    def tokens() -> Any:
        [[kept, _]] = token_check.look("train", [record], [("rows.jsonl", 1)])
        return kept

    def preview(kept: Record) -> None:
        page = Preview(settings, tokenizer)
        page.offer("train", kept, kept)  # which shows it as the first and as the longest row
        page.text()

    yield "equal", equal
    yield "near", near
    yield "tokens", tokens
    plain = Record.of([ANSWER | {"content": record.question}], kind="text")
    yield "preview", partial(preview, tokens() or plain)
    yield "targets", lambda: find_kinds([record.question])
    words = record.question.split()
    words = words[: min(len(words) // 5, PARTS // 2 - 2)]  # with their tags as large as the row
    yield "tags", lambda: read_tagged({"tokens": words, "tags": ["B-A"] * len(words)})


def measure(size: int, settings: Config, tokenizer: Any) -> list[dict[str, str | int]]:
    """Measure every check on every row of this many bytes.

    Returns:
        For each row the milliseconds of each check, 0 if the row does not reach it.
    """
    table: list[dict[str, str | int]] = []
    for name, row in make_rows(size).items():
        with tempfile.TemporaryDirectory() as folder:
            line = {
                check: round(time_of(run) / ROWS.get(check, 1) * 1000)
                for check, run in make_checks(row, settings, tokenizer, Path(folder))
            }
        table.append({"row": name, **line})
    columns = max(table, key=len)
    return [{column: line.get(column, 0) for column in columns} for line in table]


def time_of(run: Callable[[], Any]) -> float:
    """Return the seconds of this process for the fastest of a few calls."""
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
        if seconds[-1] > 1:  # too slow already
            break
    return min(seconds)


def main() -> None:
    """Print the table, and fail if a check takes too long for a row."""
    size = int(sys.argv[1]) if sys.argv[1:] else SIZE
    name, tokenizer = get_tokenizer_of_default(compose_config)
    print(f"Rows of {size:,} bytes, with the tokenizer of {name}")  # noqa: T201
    table = measure(size, compose_config(), tokenizer)
    show(table)
    slow = [
        f"{line['row']}, {check}: {took} ms"
        for line in table
        for check, took in line.items()
        if isinstance(took, int) and took > LIMIT
    ]
    if slow:
        sys.exit(f"above {LIMIT} ms:\n" + "\n".join(slow))


if __name__ == "__main__":
    main()
