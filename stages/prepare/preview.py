"""Show a few rows as the chat template renders them, with the trained tokens marked."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.config.schema import Config
from stages.core.data.encoding import get_offsets
from stages.core.data.marks import split_marked, unmark
from stages.core.data.pages import get_template
from stages.core.data.prompts import Segment, split_record
from stages.core.data.records import Record
from stages.core.secret_formats import mask_secrets
from stages.core.storage.files import atomic_write

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PREVIEW = Path("reports/preview.html")
TEMPLATE = Path(__file__).parent / "templates/preview.html.j2"
SHOWN = 20_000  # characters of a segment; training splits longer plain texts into pieces
MARKS = "⟦", "⟧"  # around trained text in output without colour


@dataclass(frozen=True, slots=True)
class Shown:
    """One row of the preview."""

    why: str
    record: Record
    segments: list[Segment]
    pieces: list[list[str]]
    """The texts of the tokens of each segment."""
    rejected: str | None
    """The worse answer, if the record has one."""

    @property
    def tokens(self) -> int:
        """The number of tokens in the row."""
        return sum(map(len, self.pieces))

    @property
    def trained(self) -> int:
        """The number of tokens that count towards the loss."""
        return sum(
            len(pieces)
            for pieces, segment in zip(self.pieces, self.segments, strict=True)
            if segment.trained
        )


class Preview:
    """Keeps the first training rows, the longest training row and the first truncated row."""

    def __init__(self, config: Config, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._first: list[Record] = []
        self._longest: tuple[int, Record] | None = None
        self._truncated: Record | None = None

    def offer(self, split: str, record: Record, kept: Record) -> None:
        """Consider the next row for the preview.

        Args:
            split: The split of the row.
            record: The record before truncation.
            kept: The record after truncation, which is the same object if nothing was cut.
        """
        if kept is not record and self._truncated is None:
            self._truncated = kept
        if split != "train":
            return
        if len(self._first) < self._config.checks.preview:
            self._first.append(kept)
        size = sum(len(message["content"]) for message in kept.messages)
        if self._longest is None or size > self._longest[0]:
            self._longest = size, kept

    @cached_property
    def rows(self) -> list[Shown]:
        """The first training rows, followed by the truncated and the longest row.

        There are at most `checks.preview` rows if that leaves room for one of the first rows.
        """
        special = [("Truncated row", self._truncated)] if self._truncated else []
        special += [("Longest training row", self._longest[1])] if self._longest else []
        first = self._first[: max(1, self._config.checks.preview - len(special))]
        chosen = [("Training row", record) for record in first] + special
        return [self._show(why, record) for why, record in chosen]

    def write(self, path: Path, statistics: dict[str, Any]) -> None:
        """Write the HTML page."""
        page = get_template(TEMPLATE).render(
            rows=self.rows, statistics=statistics, model=self._config.model, data=self._config.data
        )
        atomic_write(path, page.encode("utf-8", "replace"))

    def text(self, width: int = 1500) -> str:
        """Format the first row for a terminal, with marks around the trained text."""
        lines = []
        for row in self.rows[:1]:
            marked = "".join(
                f"{MARKS[0]}{unmark(s.text)}{MARKS[1]}" if s.trained else unmark(s.text)
                for s in row.segments
            )
            shown = (
                marked
                if len(marked) <= width
                else f"{marked[: width // 2]}\n … \n{marked[-width // 2 :]}"
            )
            lines.append(
                f"{row.why} with {row.tokens} tokens, of which the {row.trained} "
                f"between {MARKS[0]} and {MARKS[1]} are trained:"
            )
            lines += [f"  {line}" for line in shown.rstrip("\n").split("\n")]
        return "\n".join(lines)

    def _show(self, why: str, record: Record) -> Shown:
        rendered = split_record(self._tokenizer, record, self._config.prompt.tuned_system_prompt)
        segments = [Segment(_tidy(text), trained) for text, trained in rendered]
        if any(len(text) > SHOWN for text, _ in rendered):
            why += ", without the middle of its longest texts"
        pieces = [self._pieces(segment.text) for segment in segments]
        rejected = _tidy(record.rejected["content"]) if record.rejected else None
        return Shown(why, record, segments, pieces, rejected)

    def _pieces(self, text: str) -> list[str]:
        """Split a rendered text into the parts that its tokens stand for.

        If several tokens share one character, the last of them gets it and the others are empty.
        """
        pieces = []
        for part, marked in split_marked(text):
            starts = [start for start, _ in get_offsets(self._tokenizer, part, as_text=marked)]
            ends = [*starts[1:], len(part)]
            pieces += [part[start:end] for start, end in zip(starts, ends, strict=True)]
        return pieces


def _tidy(text: str) -> str:
    """Hide the secrets of a text, and cut out its middle if it is too long to read."""
    text = mask_secrets(text)
    half = SHOWN // 2
    return text if len(text) <= SHOWN else f"{text[:half]} … {text[-half:]}"
