"""Make the rows of `plots/<name>.json` and fill the Vega-Lite templates of `.dvc/plots` with them.

`dvc plots show` fills the same templates with the same rows, so the report and DVC show the same
plots. The templates use only features of Vega-Lite 5.2, which is the version in DVC's page. All
rows of a plot have the same keys, because DVC requires it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.evaluate.report.intervals import (
    ARM_KINDS,
    Row,
    arm_rows,
    difference_rows,
    forgetting_rows,
    format_estimate,
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
LABELS = 12  # labels of a confusion matrix; more are not readable (reports/verdict.json has all)
BEYOND = 1.3  # the end of the token axis over the longest prompt, to leave room for names of arms
KEYS = ("rows", "value", "ci_low", "ci_high")  # keys of a point of the learning curve
LINE = 0.07  # the height of a name in the plot of tokens


def get_plots(report: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, list[Row]]:
    """Make the rows of every plot; a plot without data has no rows."""
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
    """Fill the template of a plot for the page.

    The page has titles of its own and sets the width.

    Args:
        name: The name of the plot.
        rows: The rows from `get_plots`.
        x_label: The label of the horizontal axis, if the template has one.
        y_label: The label of the vertical axis, if the template has one.

    Returns:
        The Vega-Lite specification.
    """
    from dvc_render.vega_templates import get_template

    template = get_template(TEMPLATE_OF[name], str(TEMPLATES))
    anchors = {
        "data": rows,
        "title": "",
        "x_label": x_label,
        "y_label": y_label,
        "plot_width": 600,
        "color": {
            "field": "kind",
            "type": "nominal",
            "scale": {"domain": ARM_KINDS},
            "legend": None,
        },
    }
    for anchor, value in anchors.items():
        template.fill_anchor(anchor, value)
    return {key: value for key, value in template.content.items() if key != "title"}


def fold_labels(
    confusion: Mapping[str, Any],
) -> tuple[list[str], dict[str, list[list[int]]], list[str]]:
    """Fold rare labels of a confusion matrix into one, so that its size is readable.

    Returns:
        The labels, the matrices, and the labels that were folded into the last one because few rows
        have them. A matrix has a row for each target and a column for each answer. Its last column
        counts answers that are none of the labels.
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
    """Make the points of the arms and place their names above those of their neighbours.

    Names are placed from the lowest point upwards.
    """
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
            "shown": format_estimate(numbers[metric]),
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
        {"what": what, **{key: point[key] for key in KEYS}, "shown": format_estimate(point), **line}
        for what, points in parts
        for point in points
    ]
