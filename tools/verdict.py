"""Print the verdict of the workspace, and where to find its report and the MLflow UI.

    python -m tools.verdict

Also completes the headline numbers of the execution's MLflow run, which are missing if DVC took
every stage from its cache.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.core.config.schema import Config, read_params
from stages.core.data.verdict import read_verdict
from stages.core.entrypoint import make_parser, tool_main
from stages.core.errors import hide_secrets, printable
from stages.core.storage.files import read_json
from stages.core.tracking.runs import tracking_uri
from stages.core.tracking.tracker import complete


@tool_main("verdict")
def main() -> None:
    """Print the verdict and complete the MLflow run."""
    make_parser("tools.verdict", __doc__).parse_args()
    config = read_params()
    report = read_verdict()
    outcome = read_json(Path("metrics/register.json"))
    console = Console(highlight=False, markup=False, width=max(110, Console().width))
    console.print(_arms(config, report))
    console.print(_differences(report))
    verdict = f"\nVerdict: {report['verdict']}"
    console.print(Text.assemble((verdict, "bold"), printable(f". {report['answer']}")))
    for sentence in _sentences(config, report, outcome):
        console.print(printable(sentence))
    complete(config)


def _sentences(config: Config, report: dict[str, Any], outcome: dict[str, Any]) -> Iterator[str]:
    """Yield the lines below the verdict."""
    because = report["reasons"][:1]  # the others repeat the table of differences in words
    yield from (f"  {one}" for one in (*because, *report["summary"], *report["warnings"]))
    for part in report["slices"]:
        if part["loses"]:
            gap = _interval(part["difference"], "value", "{:+.3f}")
            yield f"  Loses on {part['by']} {part['value']!r} ({part['rows']} rows): {gap}."
    if report["looks"]["sentence"] not in report["summary"]:
        yield f"  {report['looks']['sentence']}"
    if report["forgetting"]:
        yield f"  {report['forgetting']['sentence']}"
    if report["curve"]:
        yield f"  Learning curve: {report['curve']['sentence']}"
    if report["costs"]["worth"]:
        yield f"  {report['costs']['worth']['sentence']}"
    yield f"Registry: {outcome['outcome']}"
    failed = [found for found in outcome["conditions"] if not found["passed"]]
    yield from (f"  failed: {found['sentence']}" for found in failed)
    yield f"Report:   {Path('reports/verdict.html').resolve()}"
    uri = hide_secrets(tracking_uri(config.tracking))
    yield f"MLflow:   make mlflow, or mlflow ui --backend-store-uri {uri}"


def _arms(config: Config, report: dict[str, Any]) -> Table:
    table = Table(
        title=f"{report['rows']} test rows, {report['confidence']:.0%} intervals",
        title_justify="left",
    )
    for heading in ("arm", *config.evaluate.metrics, "prompt tokens", "answer tokens", "s/request"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for arm, numbers in report["arms"].items():
        values = [
            _interval(numbers[metric], "value", "{:.3f}") if metric in numbers else "-"
            for metric in config.evaluate.metrics
        ]
        tokens = f"{numbers['prompt_tokens']:.0f}", f"{numbers['completion_tokens']:.1f}"
        table.add_row(arm, *values, *tokens, f"{numbers['seconds_per_request']:.3f}")
    return table


def _differences(report: dict[str, Any]) -> Table:
    """Build the table of what each tuned arm gains over every other arm in the primary metric."""
    metric = report["primary_metric"]
    table = Table(title=f"Paired differences in {metric}", title_justify="left")
    for heading in ("difference", "value", "at least", "at most"):
        table.add_column(heading, justify="left" if heading == "difference" else "right")
    for c in report["comparisons"]:
        if c["arm"] in report["tuned_arms"] and c["metric"] == metric:
            bounds = (_format(c[end], "{:+.3f}") for end in ("bound_low", "bound_high"))
            table.add_row(
                f"{c['arm']} - {c['against']}", _interval(c, "difference", "{:+.3f}"), *bounds
            )
    return table


def _interval(numbers: dict[str, float], key: str, form: str) -> str:
    low, high = (_format(numbers[end], form) for end in ("ci_low", "ci_high"))
    return f"{form.format(numbers[key])} ({low} to {high})"


def _format(value: float | None, form: str) -> str:
    """Write a bound, which is None in the report if rows of a single group say nothing about it."""
    return "unknown" if value is None else form.format(value)


if __name__ == "__main__":
    main()
