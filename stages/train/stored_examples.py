"""Tokenized examples in an Arrow file that is mapped into memory.

As Python lists a million rows of 500 tokens take 30 GB. In the file they take 4 GB, of which the
operating system keeps in memory what fits.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from stages.core.storage.files import atomic_file
from stages.core.storage.leftovers import remove_leftovers

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

CHUNK = 1000  # rows that are Python objects at the same time
Row = TypeVar("Row")


def in_chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the rows in lists of `CHUNK` rows."""
    rest = iter(rows)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def store_examples(examples: Iterable[dict[str, Any]], file: Path | None) -> "Dataset":
    """Write examples as they come and return them as a data set of 32-bit integers.

    Args:
        examples: The examples, which all have the same columns.
        file: The Arrow file. It is written whole or not at all, and must stay as long as the data
            set is used. None keeps the examples in memory.
    """
    import pyarrow as pa
    from datasets import Dataset

    if file is None:
        memory = pa.BufferOutputStream()
        _write(examples, memory)
        return Dataset.from_buffer(memory.getvalue())
    remove_leftovers(file.parent, file.name)
    with atomic_file(file) as partial, pa.OSFile(str(partial), "wb") as sink:
        _write(examples, sink)
    return Dataset.from_file(str(file))


def read_numbers(examples: "Dataset", column: str) -> np.ndarray:
    """Return a column that has one number per row, without a Python object for each."""
    return examples.select_columns([column]).with_format("numpy")[:][column]


def _write(examples: Iterable[dict[str, Any]], sink: "pa.NativeFile") -> None:
    import pyarrow as pa

    chunks = in_chunks(examples)
    first = pa.Table.from_pylist(next(chunks, []))
    schema = pa.schema([field.with_type(_narrow(field.type)) for field in first.schema])
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(first.cast(schema))
        for chunk in chunks:
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))


def _narrow(kind: "pa.DataType") -> "pa.DataType":
    """Return the type with 32-bit integers, which hold any token id."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return pa.list_(_narrow(kind.value_type))
    return pa.int32() if pa.types.is_int64(kind) else kind
