"""The plots: rows for `plots/<name>.json`, and the Vega-Lite templates of `.dvc/plots` filled with them.

`dvc plots show` fills the same templates with the same rows, so that the report and DVC show the same. Templates keep
to what Vega-Lite 5.2 knows, the version in DVC's page, and every row of a plot has the same keys, as DVC wants.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.evaluate.report.intervals import (
    KINDS,
    Row,
    arm_rows,
    describe,
    difference_rows,
    forgetting_rows,
    kind_of,
    numbered,
    slice_rows,
)

TEMPLATES = Path(__file__).parents[3] / ".dvc" / "plots"
TEMPLATE_OF = {
    "arms": "intervals",
    "differences": "intervals",
    "tokens": "tokens",
    "slices": "intervals",
    "confusion": "confusion",
    "curve": "curve",
    "forgetting": "intervals",
}
LABELS = 12  # of a confusion matrix; more are not readable, and reports/verdict.json has them all
BEYOND = 1.3  # how far the axis of tokens goes beyond the longest prompt, for the names of the arms
KEYS = ("rows", "value", "ci_low", "ci_high")  # of a point of the learning curve
LINE = 0.07  # height of a name in that plot


def get_plots(report: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, list[Row]]:
    """The rows of every plot, none where there is nothing to show."""
    return {
        "arms": arm_rows(report, metrics),
        "differences": difference_rows(report),
        "tokens": _tokens(report),
        "slices": slice_rows(report),
        "confusion": _confusion(report),
        "curve": _curve(report),
        "forgetting": forgetting_rows(report),
    }


def fill_template(
    name: str, rows: list[Row], x_label: str = "", y_label: str = ""
) -> dict[str, Any]:
    """The Vega-Lite specification of a plot for the page, which has titles of its own and sets the width.

    Args:
        name: of the plot.
        rows: of `get_plots`.
        x_label: of the horizontal axis, where the template has one.
        y_label: of the vertical one.
    """
    from dvc_render.vega_templates import get_template

    template = get_template(TEMPLATE_OF[name], str(TEMPLATES))
    anchors = {
        "data": rows,
        "title": "",
        "x_label": x_label,
        "y_label": y_label,
        "plot_width": 600,
        "color": {"field": "kind", "type": "nominal", "scale": {"domain": KINDS}, "legend": None},
    }
    for anchor, value in anchors.items():
        template.fill_anchor(anchor, value)
    return {key: value for key, value in template.content.items() if key != "title"}


def fold_labels(
    confusion: Mapping[str, Any],
) -> tuple[list[str], dict[str, list[list[int]]], list[str]]:
    """A confusion matrix of a readable size.

    Returns:
        its labels, its matrices (rows: targets, columns: answers and last another answer), and the labels that were
        folded into the last one because few rows have them.
    """
    labels = confusion["labels"]
    arms = confusion["arms"]
    if len(labels) <= LABELS:
        return labels, arms, []
    rows_of = [sum(row) for row in next(iter(arms.values()))]
    frequent = sorted(range(len(labels)), key=lambda i: -rows_of[i])[: LABELS - 1]
    kept = sorted(frequent)
    folded = [i for i in range(len(labels)) if i not in kept]
    groups = [*([i] for i in kept), folded]
    answers = [*groups, [len(labels)]]
    small = {
        arm: [
            [sum(matrix[i][j] for i in rows for j in columns) for columns in answers]
            for rows in groups
        ]
        for arm, matrix in arms.items()
    }
    return (
        [*(labels[i] for i in kept), f"{len(folded)} other labels"],
        small,
        [labels[i] for i in folded],
    )


def _tokens(report: Mapping[str, Any]) -> list[Row]:
    """Points, and at what height their names stand: above those of their neighbours, from the lowest upwards."""
    metric = report["primary_metric"]
    arms = report["arms"]
    right = BEYOND * max(numbers["prompt_tokens"] for numbers in arms.values())
    line = max(numbers[metric]["ci_high"] for numbers in arms.values()) * LINE
    rows: list[Row] = []
    for arm, numbers in sorted(arms.items(), key=lambda item: item[1][metric]["value"]):
        tokens = numbers["prompt_tokens"]
        near = [row["name_at"] for row in rows if abs(row["prompt_tokens"] - tokens) < right / 3]
        row = {
            "arm": arm,
            "prompt_tokens": tokens,
            **numbers[metric],
            "shown": describe(numbers[metric]),
        }
        height = max([numbers[metric]["value"], *(y + line for y in near)])
        rows.append({**row, "kind": kind_of(report, arm), "name_at": height, "right": right})
    return rows


def _confusion(report: Mapping[str, Any]) -> list[Row]:
    if not report["confusion"]:
        return []
    labels, arms, _ = fold_labels(report["confusion"])
    rows = []
    for arm, matrix in arms.items():
        for label, counts in zip(labels, matrix, strict=True):
            shares = [count / max(1, sum(counts)) for count in counts]
            for j, answer in enumerate([*labels, "another answer"]):
                place = {"arm": arm, "target": label, "answer": answer, "column": j}
                rows.append({**place, "count": counts[j], "share": shares[j]})
    return numbered(rows, panel="arm")


def _curve(report: Mapping[str, Any]) -> list[Row]:
    if not report["curve"]:
        return []
    rival = report["best_prompted_arm"]
    line = {
        "prompted": report["arms"][rival][report["primary_metric"]]["value"],
        "rival": rival,
        "kind": "tuned",
    }
    parts = (("fitted", report["curve"]["fit"]), ("measured", report["curve"]["points"]))
    return [
        {"what": what, **{key: point[key] for key in KEYS}, "shown": describe(point), **line}
        for what, points in parts
        for point in points
    ]
