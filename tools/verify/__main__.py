"""Compute again what a registered model was made of, and say what holds.

    python -m tools.verify model=@champion                  # of the model in params.yaml
    python -m tools.verify model=tuneproof-food/3 --rerun

Each line says whether a part of the lineage `holds`, has `drifted` (something else is there now) or is
`unknown` on this machine. With `--rerun` the model is trained again from the recorded commit and
configuration, in a temporary clone with the recorded packages, and its weights, answers and metrics are
compared. The exit status is 1 if anything has drifted.
"""

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stages.core.config.schema import read_params
from stages.core.entrypoint import make_parser, tool_main
from tools.verify.outcome import Status

COLOURS = {Status.HOLDS: "green", Status.DRIFTED: "red", Status.UNKNOWN: "yellow"}


@tool_main("verify")
def main() -> None:
    """Print a line for each part of the lineage."""
    parser = make_parser("tools.verify", __doc__)
    parser.add_argument(
        "model", help="model=<name>@<alias>, model=<name>/<version>, or an alias or a number alone"
    )
    parser.add_argument("--rerun", action="store_true", help="train the model again and compare")
    arguments = parser.parse_args()
    from stages.core.tracking.version_files import fetch_model
    from stages.core.tracking.versions import complete, connect, find_version
    from tools.verify.checks import check_all
    from tools.verify.recorded import Recorded

    config = read_params()
    reference = complete(arguments.model.removeprefix("model="), config.register_.name)
    version = find_version(connect(config.tracking), reference)
    recorded = Recorded(version, fetch_model(version.uri), config)
    outcomes = dict(check_all(recorded))
    if arguments.rerun:
        from tools.verify.rerun import check_rerun

        outcomes |= check_rerun(recorded)
    table = Table(title=f"{version.name} version {version.number}")
    for heading in ("what", "status", "why"):
        table.add_column(heading, overflow="fold")
    for what, outcome in outcomes.items():
        status = f"[{COLOURS[outcome.status]}]{outcome.status.value}[/]"
        table.add_row(what, status, escape(outcome.sentence))
    Console(highlight=False).print(table)
    statuses = [outcome.status for outcome in outcomes.values()]
    counts = ", ".join(f"{statuses.count(status)} {status.value}" for status in Status)
    sys.stdout.write(f"{counts}\n")
    sys.exit(Status.DRIFTED in statuses)


if __name__ == "__main__":
    main()
