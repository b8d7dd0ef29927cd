"""Show registered versions as tables."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from stages.core.errors import UserError, printable
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.versions import Version, as_version, list_models, search_versions
from stages.register.condition import GATE, list_failed
from stages.register.history import ROLLBACK, Move, read_history
from stages.register.lock import SUFFIX

if TYPE_CHECKING:
    from mlflow import MlflowClient

HEADINGS = ("version", "alias", "verdict", "primary metric", "gate", "registered", "replaced")
SHORT = 19  # characters of a time in ISO 8601 without its zone


def list_versions(client: "MlflowClient", name: str | None) -> Iterator[Table]:
    """Yield a table of the versions of each registered model, or of one, the newest first.

    Raises:
        UserError: There is no such model.
    """
    models = [model for model in list_models(client) if SUFFIX not in model]
    if name and name not in models:
        raise UserError(f"no registered model has the name {name}. There are: {models or 'none'}")
    if not models:
        raise UserError(
            "the registry has no models. Run `dvc repro`, which registers the model if it passes "
            "the gate"
        )
    for found in [name] if name else models:
        history = read_history(client, found)
        moves = [move for moves in history.values() for move in moves]
        table = Table(title=printable(found), title_justify="left")
        for heading in HEADINGS:
            table.add_column(heading)
        for version in sorted(
            _read_versions(client, found), key=lambda one: int(one.number), reverse=True
        ):
            table.add_row(*map(printable, _describe(version, moves)))
        yield table


def explain(client: "MlflowClient", version: Version) -> Iterator[Table | Text]:
    """Yield what let a version in, where it comes from, and when it got and lost an alias."""
    tags = version.tags
    start = GATE.removeprefix(PREFIX)
    aliases = f", alias {', '.join(version.aliases)}" if version.aliases else ", no alias"
    title = f"{version.name} version {version.number}{aliases}"
    yield Text(printable(f"{title}: registered {_write_time(version.created)}"), "bold")
    yield Text(printable(f"Verdict {tags.get('verdict', 'unknown')}. {tags.get('purpose', '')}"))
    gate = {key.removeprefix(start): text for key, text in tags.items() if key.startswith(start)}
    if gate:
        yield _make_table("The gate", ("condition", "outcome"), sorted(gate.items()))
    else:
        yield Text("An earlier version of Tuneproof registered it and recorded no conditions.")
    for alias, moves in read_history(client, version.name).items():
        rows = [
            (move.at[:SHORT], move.action, move.version, move.replaced or "none", move.reason)
            for move in moves
            if version.number in (move.version, move.replaced)
        ]
        headings = ("when (UTC)", "action", "version", "replaced", "reason")
        if rows:
            yield _make_table(f"The history of the alias {alias}", headings, rows)
    lineage = [(key, text) for key, text in sorted(tags.items()) if not key.startswith(start)]
    yield _make_table("Lineage", ("what", "value"), lineage)


def _read_versions(client: "MlflowClient", name: str) -> list[Version]:
    found = search_versions(client, name)
    return [as_version(client.get_model_version(name, one.number)) for one in found]


def _describe(version: Version, moves: list[Move]) -> tuple[str, ...]:
    tags = version.tags
    got = [move for move in moves if move.version == version.number and move.action != ROLLBACK]
    metric = tags.get("primary_metric", "unknown")
    value = tags.get("primary_value")
    failed = list_failed(tags)
    recorded = any(key.startswith(GATE.removeprefix(PREFIX)) for key in tags)
    passed = "passed" if recorded else "not recorded"
    return (
        version.number,
        ", ".join(version.aliases),
        tags.get("verdict", "unknown"),
        f"{metric} {float(value):.3f}" if value else metric,
        f"failed: {', '.join(failed)}" if failed else passed,
        _write_time(version.created),
        (got[-1].replaced or "none") if got else "unknown",
    )


def _make_table(title: str, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=printable(title), title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(part)) for part in row))
    return table


def _write_time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
