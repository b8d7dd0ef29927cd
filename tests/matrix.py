"""Write the matrix of architectures into `docs/models.md`.

python -m tests.matrix
"""

import math
from pathlib import Path

from stages.core.models.caches import get_batching
from tests.architectures import MATRIX, Architecture

PAGE = Path("docs/models.md")
START = "<!-- written by `python -m tests.matrix` -->\n"
END = "<!-- end -->\n"


def write_table() -> str:
    """Return the table with a line for each architecture."""
    head = "| architecture | such as | answers |\n|---|---|---|\n"
    return head + "".join(
        f"| {one.name} | {one.example} | {_describe_answers(one)} |\n" for one in MATRIX
    )


def _describe_answers(architecture: Architecture) -> str:
    batching = get_batching(architecture.build())
    if math.isinf(batching.room):
        return "in joined batches with a shared prefix"
    way = "in padded batches" if batching.padded else "in batches of equal length"
    if batching.room:
        return f"the same within its window, {way} by transformers beyond it"
    return f"{way} by transformers"


def replace_table(page: str) -> str:
    """Return the page with the table of today."""
    before, rest = page.split(START)
    return f"{before}{START}\n{write_table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(replace_table(PAGE.read_text()))
