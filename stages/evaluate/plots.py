"""The report's figures as SVG text, without a browser, a display or a network."""

import io
from typing import Any

COLOURS = {"tuned": "#0b7a75"}
OTHER = "#8a8f98"


def arms_plot(report: dict[str, Any], metrics: list[str]) -> str:
    """One panel a metric: each arm's value with its interval."""
    figure, axes = _panels(len(metrics))
    for axis, metric in zip(axes, metrics, strict=True):
        for row, (arm, numbers) in enumerate(report["arms"].items()):
            _interval(axis, row, numbers[metric]["value"], numbers[metric]["ci_low"], numbers[metric]["ci_high"], arm)
        axis.set(title=metric, xlim=(-0.02, 1.02), yticks=range(len(report["arms"])), yticklabels=report["arms"])
        axis.invert_yaxis()
    return _svg(figure)


def differences_plot(report: dict[str, Any], metrics: list[str]) -> str:
    """One panel a metric: tuned minus each other arm, with zero and the margin."""
    figure, axes = _panels(len(metrics))
    for axis, metric in zip(axes, metrics, strict=True):
        rows = [comparison for comparison in report["comparisons"] if comparison["metric"] == metric]
        for row, c in enumerate(rows):
            _interval(axis, row, c["difference"], c["ci_low"], c["ci_high"], "tuned")
        axis.axvline(0, color="#333", linewidth=0.8)
        if metric == report["primary_metric"]:
            axis.axvline(report["margin"], color="#c0392b", linewidth=0.8, linestyle="--")
        labels = [f"tuned − {c['against']}" for c in rows]
        axis.set(title=metric, yticks=range(len(rows)), yticklabels=labels)
        axis.invert_yaxis()
    return _svg(figure)


def slices_plot(report: dict[str, Any]) -> str:
    """Tuned minus the best prompted arm on each part of the test rows."""
    parts = report["slices"]
    figure, (axis,) = _panels(1)
    figure.set_size_inches(6.5, 0.8 + 0.34 * len(parts))
    for row, part in enumerate(parts):
        gap = part["difference"]
        _interval(axis, row, gap["value"], gap["ci_low"], gap["ci_high"], "" if part["loses"] else "tuned")
    axis.axvline(0, color="#333", linewidth=0.8)
    axis.set(yticks=range(len(parts)), yticklabels=[f"{part['by']}: {part['value'][:28]}" for part in parts])
    axis.invert_yaxis()
    return _svg(figure)


def tokens_plot(report: dict[str, Any]) -> str:
    """Quality against what a prompt costs."""
    figure, (axis,) = _panels(1)
    for row, (arm, numbers) in enumerate(report["arms"].items()):
        value = numbers[report["primary_metric"]]
        low, high = value["value"] - value["ci_low"], value["ci_high"] - value["value"]
        colour = COLOURS.get(arm, OTHER)
        axis.errorbar(numbers["prompt_tokens"], value["value"], [[low], [high]], fmt="o", color=colour, capsize=3)
        axis.annotate(
            arm,
            (numbers["prompt_tokens"], value["value"]),
            xytext=(7, -12 if row % 2 else 5),
            textcoords="offset points",
        )
    axis.set(xlabel="prompt tokens a request", ylabel=report["primary_metric"], ylim=(-0.03, 1.03))
    axis.set_xlim(left=0, right=1.25 * max(numbers["prompt_tokens"] for numbers in report["arms"].values()))
    return _svg(figure)


def _panels(count: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * count if count > 1 else 6, 2.6 if count > 1 else 3.2), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x", color="#e5e7eb")
    return figure, axes


def _interval(axis: Any, row: int, value: float, low: float, high: float, arm: str) -> None:
    colour = COLOURS.get(arm, OTHER)
    axis.plot([low, high], [row, row], color=colour, linewidth=2.5, solid_capstyle="butt")
    axis.plot([value], [row], "o", color=colour)
    axis.annotate(f"{value:.2f}", (value, row), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    axis.margins(y=0.25)


def _svg(figure: Any) -> str:
    import matplotlib

    target = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "tuneproof", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(target, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = target.getvalue()
    return text[text.index("<svg") :]
