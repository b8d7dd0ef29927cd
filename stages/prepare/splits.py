"""Write and rewrite the files of the three splits."""

from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from stages.core.data.records import SPLITS, Record
from stages.prepare.reading import Placed

BATCH = 5_000  # records in memory at once, at most
BATCH_BYTES = 4_000_000  # bytes of their lines after which a batch ends
# The order in which rows are compared and numbered. The test split comes first, because of two near
# rows in different splits the later one is dropped.
ORDER = SPLITS[::-1]


class SplitFiles:
    """Manages `<split>.jsonl` in a folder, and remembers each record's place in the source.

    The places take twelve bytes of memory per record.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[str] = []
        self._file = {split: array("I") for split in SPLITS}
        self._line = {split: array("Q") for split in SPLITS}

    @property
    def counts(self) -> dict[str, int]:
        """The number of records in each split."""
        return {split: len(lines) for split, lines in self._line.items()}

    def write(self, records: Iterable[Placed]) -> None:
        """Write each record to the file of its split, in order."""
        with ExitStack() as stack:
            files = {name: stack.enter_context(self._path(name).open("wb")) for name in SPLITS}
            for placed in records:
                files[placed.split].write(placed.record.dump())
                if placed.file not in self._files[-1:]:
                    self._files.append(placed.file)
                self._file[placed.split].append(len(self._files) - 1)
                self._line[placed.split].append(placed.line)

    def batches(self, split: str) -> Iterator[list[Record]]:
        """Yield the records of a split in order, in batches of limited rows and bytes."""
        with self._path(split).open("rb") as file:
            while lines := file.readlines(BATCH_BYTES):
                for start in range(0, len(lines), BATCH):
                    yield [Record.load(line) for line in lines[start : start + BATCH]]

    def pick(self, split: str, rows: set[int]) -> dict[int, Record]:
        """Read the records at these indices."""
        if not rows:
            return {}
        with self._path(split).open("rb") as file:
            return {i: Record.load(line) for i, line in enumerate(file) if i in rows}

    def get_splits(self) -> np.ndarray:
        """Return the index in `ORDER` of the split of each row, shape (rows,)."""
        return np.repeat(np.arange(len(ORDER)), [self.counts[split] for split in ORDER])

    def find(self, number: int) -> tuple[str, int]:
        """Return the split of a row and its index there, given its number in `ORDER`."""
        for split in ORDER:
            if number < self.counts[split]:
                return split, number
            number -= self.counts[split]
        raise IndexError(number)

    def place(self, split: str, row: int) -> tuple[str, int]:
        """Return the source file and line of the record at this index."""
        return self._files[self._file[split][row]], self._line[split][row]

    def regroup(self, splits: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        """Move records to other splits, and write their clusters into their metadata.

        The records of each split stay in the order of the source. Rows are numbered in `ORDER`.

        Args:
            splits: The index in `ORDER` of the new split of each row, shape (rows,).
            clusters: The number of the cluster of each row, or 0, shape (rows,).

        Returns:
            The new number of each row, shape (rows,).
        """
        numbers = np.arange(len(splits))
        if not clusters.any():
            return numbers
        files = np.concatenate([np.array(self._file[split]) for split in ORDER])
        lines = np.concatenate([np.array(self._line[split]) for split in ORDER])
        partial = [self._path(split).with_suffix(".changed") for split in ORDER]
        with ExitStack() as stack:
            olds = [stack.enter_context(self._path(split).open("rb")) for split in ORDER]
            news = [stack.enter_context(path.open("wb")) for path in partial]
            old = self.get_splits()
            for row in np.lexsort((lines, files)):
                line = olds[old[row]].readline()
                news[splits[row]].write(_name_cluster(line, clusters[row]))
        order = np.lexsort((lines, files, splits))
        numbers[order] = np.arange(len(splits))
        ends = np.cumsum(np.bincount(splits, minlength=len(ORDER)))[:-1]
        for path, split, rows in zip(partial, ORDER, np.split(order, ends), strict=True):
            path.replace(self._path(split))
            self._file[split] = array("I", files[rows].tolist())
            self._line[split] = array("Q", lines[rows].tolist())
        return numbers

    def change(self, split: str, dropped: set[int], replaced: dict[int, Record]) -> None:
        """Drop and replace the records at these indices."""
        if not dropped and not replaced:
            return
        partial = self._path(split).with_suffix(".changed")
        with self._path(split).open("rb") as old, partial.open("wb") as new:
            for i, line in enumerate(old):
                if i not in dropped:
                    new.write(replaced[i].dump() if i in replaced else line)
        partial.replace(self._path(split))
        for places in (self._file, self._line):
            kept = (value for i, value in enumerate(places[split]) if i not in dropped)
            places[split] = array(places[split].typecode, kept)

    def _path(self, split: str) -> Path:
        return self._folder / f"{split}.jsonl"


def _name_cluster(line: bytes, cluster: int) -> bytes:
    if not cluster:
        return line
    record = Record.load(line)
    return replace(record, meta={**record.meta, "cluster": f"{cluster:016x}"}).dump()
