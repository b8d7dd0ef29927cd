"""Look at the registered versions, say why one was let in, and move the alias.

    python -m tools.registry list                     # all versions of all models
    python -m tools.registry why @champion            # the conditions, the lineage and the history
    python -m tools.registry promote 3                # repeat the gate, then give version 3 the alias
    python -m tools.registry promote 3 --force "Version 4 is too slow."
    python -m tools.registry rollback --reason "Customers complained."

A version is <name>@<alias> or <name>/<number>. Without a name it is of the model in params.yaml, as
@champion or 3. docs/registry.md describes the gate, the lock and the history.
"""

import argparse
import sys

from rich.console import Console

from stages.core.config.register import check_alias
from stages.core.config.schema import Config, read_params
from stages.core.entrypoint import make_parser, set_up_process, tool_main
from stages.core.errors import UserError, printable
from stages.core.tracking.versions import complete, connect, find_version


@tool_main("registry")
def main() -> None:
    """Run the command that the arguments name. A refused promotion ends with exit status 1."""
    from tools.registry import moves, views

    arguments = _parse()
    set_up_process()
    config = read_params()
    client = connect(config.tracking)
    console = Console(highlight=False, markup=False, width=max(110, Console().width))
    alias = _read_alias(getattr(arguments, "alias", None), config)
    if arguments.command == "list":
        for table in views.list_versions(client, arguments.name):
            console.print(table)
    elif arguments.command == "why":
        version = find_version(client, complete(arguments.version, config.register_.name))
        for part in views.explain(client, version):
            console.print(part)
    elif arguments.command == "promote":
        version = find_version(client, complete(arguments.version, config.register_.name))
        outcome = moves.promote(config, client, version, alias, arguments.force)
        for line in outcome.lines:
            console.print(printable(line))
        sys.exit(0 if outcome.moved else 1)
    else:
        name = arguments.name or config.register_.name
        console.print(printable(moves.rollback(client, name, alias, arguments.reason)))


def _read_alias(given: str | None, config: Config) -> str:
    """Return the alias that was given, or that of params.yaml, and check it."""
    alias = given or config.register_.alias
    try:
        check_alias(alias)
    except ValueError as error:
        raise UserError(f"--alias: {error}") from None
    return alias


def _parse() -> argparse.Namespace:
    parser = make_parser("tools.registry", __doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="list the versions of all models, or of one")
    listing.add_argument("name", nargs="?", help="the name of a registered model")
    why = commands.add_parser("why", help="show the conditions, the lineage and the history")
    promote = commands.add_parser("promote", help="repeat the gate and give a version the alias")
    for command in (why, promote):
        command.add_argument(
            "version", help="<name>@<alias>, <name>/<number>, @<alias> or <number>"
        )
    promote.add_argument(
        "--force", metavar="REASON", help="move the alias whatever failed; the reason is recorded"
    )
    rollback = commands.add_parser("rollback", help="give the alias back to its previous holder")
    rollback.add_argument("name", nargs="?", help="the model (default: that of params.yaml)")
    rollback.add_argument("--reason", required=True, help="why; it is recorded")
    for command in (promote, rollback):
        command.add_argument("--alias", help="the alias (default: register.alias of params.yaml)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
