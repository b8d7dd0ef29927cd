"""Rows of the plots that show values with their intervals, panel by panel: arms, differences, slices, forgetting."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
KINDS = ("tuned", "best prompted", "other", "worse")  # the page gives each its colour
SLICES = 40  # more are not readable; reports/verdict.json has them all


def arm_rows(report: Mapping[str, Any], metrics: Sequence[str]) -> list[Row]:
    """Every arm, a panel for each metric."""
    rows = [
        _interval(
            _panel(report, metric),
            arm,
            numbers[metric],
            kind=kind_of(report, arm),
            note=_tokens_note(numbers),
        )
        for metric in metrics
        for arm, numbers in report["arms"].items()
        if metric in numbers
    ]
    for metric in metrics:
        of_metric = [row for row in rows if row["panel"] == _panel(report, metric)]
        _set_axis(of_metric, low=0.0)
    return numbered(rows)


def difference_rows(report: Mapping[str, Any]) -> list[Row]:
    """Each tuned arm minus each other one, a panel for each metric, the margin in the primary one's."""
    rows = []
    for c in report["comparisons"]:
        if c["arm"] not in report["tuned_arms"]:
            continue
        panel = _panel(report, c["metric"])
        label = f"{c['arm']} − {c['against']}"
        margin = report["margin"] if c["metric"] == report["primary_metric"] else None
        gap = {"value": c["difference"], "ci_low": c["ci_low"], "ci_high": c["ci_high"]}
        note = f"at least {c['bound_low']:+.3f}, at most {c['bound_high']:+.3f}"
        rows.append(_interval(panel, label, gap, note=note, margin=margin, zero=0.0))
    for panel in {row["panel"] for row in rows}:
        _set_axis([row for row in rows if row["panel"] == panel])
    return numbered(rows)


def slice_rows(report: Mapping[str, Any]) -> list[Row]:
    """At most `SLICES` parts, lost ones and then those with the most rows first, in the order of the report."""
    parts = report["slices"]
    chosen = sorted(parts, key=lambda part: (not part["loses"], -part["rows"]))[:SLICES]
    rows = [
        {
            **_interval(
                f"by {part['by']}",
                part["value"],
                part["difference"],
                note=f"{part['rows']} rows",
                zero=0.0,
            ),
            "kind": "worse" if part["loses"] else "tuned",
        }
        for part in parts
        if part in chosen
    ]
    _set_axis(rows)  # one for all panels: they show the same metric
    return numbered(rows)


def forgetting_rows(report: Mapping[str, Any]) -> list[Row]:
    """The tuned model minus the base model on the general suite and on the harness's tasks."""
    abilities = report["forgetting"]["abilities"] if report["forgetting"] else []
    rows = [
        _interval(
            "general suite, tuned − base",
            a["category"],
            a["difference"],
            note=f"{a['items']} items",
            zero=0.0,
        )
        for a in abilities
    ]
    for task in report["harness"] or []:
        label = f"{task['task']} ({task['metric']})"
        rows.append(_interval("harness, tuned − base", label, task["difference"], zero=0.0))
    _set_axis(rows)
    return numbered(rows)


def numbered(rows: list[Row], panel: str = "panel") -> list[Row]:
    """The rows with their order, which the templates sort by: panel by panel, so that it fits two revisions alike."""
    panels: dict[str, list[Row]] = {}
    for row in rows:
        panels.setdefault(row[panel], []).append(row)
    return [
        {**row, "order": 10_000 * number + position}
        for number, of_panel in enumerate(panels.values())
        for position, row in enumerate(of_panel)
    ]


def describe(estimate: Mapping[str, float], sign: str = "") -> str:
    """A value with its interval, in words for a tooltip."""
    value, low, high = (
        format(estimate[key], f"{sign}.3f") for key in ("value", "ci_low", "ci_high")
    )
    return f"{value} ({low} to {high})".replace("-", "−")


def kind_of(report: Mapping[str, Any], arm: str) -> str:
    """Which of `KINDS` an arm is."""
    if arm in report["tuned_arms"]:
        return "tuned"
    return "best prompted" if arm == report["best_prompted_arm"] else "other"


def _interval(
    panel: str,
    label: str,
    estimate: Mapping[str, float],
    *,
    kind: str = "tuned",
    note: str = "",
    margin: float | None = None,
    zero: float | None = None,
) -> Row:
    numbers = {key: estimate[key] for key in ("value", "ci_low", "ci_high")}
    text = {"shown": describe(estimate, "+" if zero is not None else ""), "note": note}
    return {
        "panel": panel,
        "label": label,
        **numbers,
        **text,
        "kind": kind,
        "zero": zero,
        "margin": margin,
    }


def _set_axis(rows: Iterable[Row], low: float | None = None) -> None:
    """Say in each row from where to where its axis goes, at least: a template cannot know."""
    rows = list(rows)
    keys = ("value", "ci_low", "ci_high", "zero", "margin")
    ends = [row[key] for row in rows for key in keys if row[key] is not None]
    start = min([*ends, *([] if low is None else [low])], default=0.0)
    end = max(ends, default=1.0)
    for row in rows:
        row.update(low=start, high=end if end > start else start + 1.0)


def _tokens_note(numbers: Mapping[str, Any]) -> str:
    return f"{numbers['prompt_tokens']:.0f} prompt tokens, {numbers['seconds_per_request']:.3f} s a request"


def _panel(report: Mapping[str, Any], metric: str) -> str:
    return (
        f"{metric} (lower is better)" if report["measures"][metric]["lower_is_better"] else metric
    )
