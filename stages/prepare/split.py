"""The split by content: adding or moving rows never moves another row."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import orjson

from stages.core.config import Split
from stages.core.errors import UserError
from stages.core.files import sha256_json
from stages.core.records import SPLITS, Record


def choose_split(record: Record, split: Split, seed: int) -> str:
    """`train`, `validation` or `test`, by the hash of prompt and seed: two answers to a prompt stay together."""
    position = int(sha256_json([seed, record.prompt])[:12], 16) / 16**12  # uniform in [0, 1)
    if position < split.test:
        return "test"
    return "validation" if position < split.test + split.validation else "train"


def write_splits(records: Iterable[Record], folder: Path, split: Split, seed: int) -> dict[str, int]:
    """Write `<split>.jsonl` into the folder, in the order of the records. Returns the rows of each."""
    counts = dict.fromkeys(SPLITS, 0)
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.jsonl").open("wb")) for name in SPLITS}
        for record in records:
            name = choose_split(record, split, seed)
            files[name].write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            counts[name] += 1
    return counts


def check_splits(counts: dict[str, int]) -> None:
    """Raise where a split is empty.

    Raises:
        UserError: it names them.
    """
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise UserError(
            f"the split leaves no rows for {', '.join(empty)}: give more rows, or larger shares in data.split"
        )
