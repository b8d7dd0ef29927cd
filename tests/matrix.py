"""Write the matrix of architectures into `docs/models.md`.

python -m tests.matrix
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.models.caches import get_batching
from stages.train.adapter import find_experts
from stages.train.trainers.packing import can_pack
from tests.architectures import EXPORTED, GGUF, MATRIX, REGISTERED, Architecture

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PAGE = Path("docs/models.md")
START = "<!-- written by `python -m tests.matrix` -->\n"
END = "<!-- end -->\n"


def write_table() -> str:
    """Return the table with a line for each architecture."""
    names = ("architecture", "such as", "answers", "training", "registered", "exported", "GGUF")
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|\n"
    return head + "".join(map(_write_line, MATRIX))


def _write_line(architecture: Architecture) -> str:
    model = architecture.build()
    cells = (
        architecture.name,
        architecture.example,
        _describe_answers(model),
        _describe_training(model),
        " and ".join(REGISTERED),
        ", ".join(EXPORTED),
        GGUF[architecture.name],
    )
    return f"| {' | '.join(cells)} |\n"


def _describe_answers(model: "PreTrainedModel") -> str:
    batching = get_batching(model)
    if math.isinf(batching.room):
        return "in joined batches with a shared prefix"
    way = "in padded batches" if batching.padded else "in batches of equal length"
    if batching.room:
        return f"the same within its window, {way} by transformers beyond it"
    return f"{way} by transformers"


def _describe_training(model: "PreTrainedModel") -> str:
    rows = "in joined rows" if can_pack(model) else "in padded rows"
    return f"{rows}, with adapters on the experts" if find_experts(model) else rows


def replace_table(page: str) -> str:
    """Return the page with the table of today."""
    before, rest = page.split(START)
    return f"{before}{START}\n{write_table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(replace_table(PAGE.read_text()))
