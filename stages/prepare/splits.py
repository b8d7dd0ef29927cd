"""Write and rewrite the files of the three splits."""

from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from stages.core.data.records import SPLITS, Record
from stages.prepare.reading import Placed

BATCH = 5_000  # records in memory at once, at most
BATCH_BYTES = 4_000_000  # bytes of their lines after which a batch ends


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

    def place(self, split: str, row: int) -> tuple[str, int]:
        """Return the source file and line of the record at this index."""
        return self._files[self._file[split][row]], self._line[split][row]

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
