"""Print a table on the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table


def show(rows: Sequence[Mapping[str, str | int | float]]) -> None:
    """Print one line per row under the keys of the first row, and floats with three decimals."""
    table = Table()
    for heading in rows[0]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            *[f"{value:,.3f}" if isinstance(value, float) else str(value) for value in row.values()]
        )
    Console(width=140).print(table)
