"""Make the rows of the plots with intervals: arms, differences, slices and forgetting."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
ARM_KINDS = ("tuned", "best prompted", "other", "worse")  # each has a colour in the page
SLICES = 40  # more are not readable; reports/verdict.json has all of them


def arm_rows(report: Mapping[str, Any], metrics: Sequence[str]) -> list[Row]:
    """Make the rows of every arm, with a panel for each metric."""
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
    """Make the rows of each tuned arm minus each other arm, with a panel for each metric.

    The panel of the primary metric also shows the margin.
    """
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
    """Make the rows of at most `SLICES` parts, in the order of the report.

    Parts on which the tuned arm loses are kept first, then those with the most rows.
    """
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
    _set_axis(rows)  # one axis for all panels, because they show the same metric
    return numbered(rows)


def forgetting_rows(report: Mapping[str, Any]) -> list[Row]:
    """Make the rows of the tuned minus the base model, on the general suite and the harness."""
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
    """Number the rows panel by panel for the templates, which sort by this order.

    Numbering by panel keeps the order of two revisions compatible.
    """
    panels: dict[str, list[Row]] = {}
    for row in rows:
        panels.setdefault(row[panel], []).append(row)
    return [
        {**row, "order": 10_000 * number + position}
        for number, of_panel in enumerate(panels.values())
        for position, row in enumerate(of_panel)
    ]


def format_estimate(estimate: Mapping[str, float], sign: str = "") -> str:
    """Format a value with its interval for a tooltip."""
    value, low, high = (
        format(estimate[key], f"{sign}.3f") for key in ("value", "ci_low", "ci_high")
    )
    return f"{value} ({low} to {high})".replace("-", "−")


def kind_of(report: Mapping[str, Any], arm: str) -> str:
    """Get the entry of `ARM_KINDS` for an arm."""
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
    text = {"shown": format_estimate(estimate, "+" if zero is not None else ""), "note": note}
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
    """Write the minimal range of the axis into each row, because a template cannot compute it."""
    rows = list(rows)
    keys = ("value", "ci_low", "ci_high", "zero", "margin")
    ends = [row[key] for row in rows for key in keys if row[key] is not None]
    start = min([*ends, *([] if low is None else [low])], default=0.0)
    end = max(ends, default=1.0)
    for row in rows:
        row.update(low=start, high=end if end > start else start + 1.0)


def _tokens_note(numbers: Mapping[str, Any]) -> str:
    return (
        f"{numbers['prompt_tokens']:.0f} prompt tokens, "
        f"{numbers['seconds_per_request']:.3f} s per request"
    )


def _panel(report: Mapping[str, Any], metric: str) -> str:
    return (
        f"{metric} (lower is better)" if report["measures"][metric]["lower_is_better"] else metric
    )
