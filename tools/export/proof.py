"""What was proved about an export, and what was not."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from stages.core.errors import printable
from stages.core.storage.files import write_json

PROOF = "proof.json"


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that holds for an export, or that could not be checked.

    A check that fails raises a `UserError` instead, so that the export is never named.
    """

    what: str
    """The subject: `files`, `tensors`, `template`, `tokens`, `answers` or `metric`."""
    proved: bool
    """Whether it was checked and holds."""
    sentence: str
    """What holds, or why it was not checked."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The numbers of the sentence, for programs."""


def write_proofs(folder: Path, proofs: Sequence[Proof]) -> None:
    """Write the file with what was proved into the folder of an export."""
    write_json(folder / PROOF, [asdict(proof) for proof in proofs])


def make_table(proofs: Sequence[Proof]) -> Table:
    """Make the table that is printed after an export."""
    table = Table(title="What was proved", title_justify="left", show_lines=False)
    for heading in ("what", "proved", "how"):
        table.add_column(heading)
    for proof in proofs:
        table.add_row(proof.what, "yes" if proof.proved else "no", printable(proof.sentence))
    return table


def list_proofs(proofs: Sequence[Proof]) -> str:
    """Write the proofs as a Markdown list, for the card of an export."""
    return "\n".join(
        f"- **{proof.what}**{'' if proof.proved else ' (not proved)'}: {proof.sentence}"
        for proof in proofs
    )
