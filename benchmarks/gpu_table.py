"""Format the results of `benchmarks.gpu_check` as Markdown."""

from typing import Any

from benchmarks.gpu_correctness import Check

THOUSAND = 1000  # from which numbers have no decimals
COLUMNS = ("tokens/s", "peak GB", "tokens a pass", "loss")
PASSED = {True: "yes", False: "**no**", None: "not run"}
LINES = 20  # of those that wait, the most frequent ones


def describe(checks: list[Check], rates: list[dict[str, Any]], rehearsal: bool) -> str:
    """Format all results."""
    from stages.core.environment.lineage import hardware, versions

    title = "Rehearsal of the GPU check: the numbers mean nothing" if rehearsal else "GPU check"
    lines = [f"# {title}", "", f"{hardware()}", "", f"{versions()}", ""]
    lines += ["| check | passed | found |", "|---|---|---|"]
    lines += [f"| {c.name} | {PASSED[c.passed]} | {_escape(c.found)} |" for c in checks]
    lines += ["", f"| model | rows | contender | {' | '.join(COLUMNS)} |"]
    lines += ["|---|---|---|" + "---:|" * len(COLUMNS)]
    lines += [_row(found) for found in rates if "waits" not in found]
    for found in rates:
        if "waits" in found:
            lines += _waits(found)
    return "\n".join(lines) + "\n"


def _row(found: dict[str, Any]) -> str:
    cells = [_format(found.get(column)) for column in COLUMNS]
    if "why" in found:
        cells[0] = _escape(found["why"])
    return f"| {found['model']} | {found['rows']} | {found['contender']} | {' | '.join(cells)} |"


def _waits(found: dict[str, Any]) -> list[str]:
    """Return a table of the lines that wait for the GPU."""
    title = f"{found['contender']}, {found['model']}, {found['rows']} rows"
    rows = [f"| `{line}` | {count:.1f} |" for line, count in found["waits"].items()]
    left = [f"| {len(rows) - LINES} further lines | |"] if len(rows) > LINES else []
    head = ["", f"| {title} | in a step |", "|---|---:|"]
    return head + (rows[:LINES] + left or ["| none | |"])


def _escape(text: str) -> str:
    return text.replace("|", "/")


def _format(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{0 if value >= THOUSAND else 3}f}"
