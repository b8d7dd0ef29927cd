"""Write the verdict for a machine, for a pull request and for a meeting."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core.config.schema import Config
from stages.core.data.predictions import Prediction
from stages.core.data.records import Record
from stages.core.data.verdict import write_verdict
from stages.core.storage.files import atomic_write, write_json
from stages.evaluate.analysis.evidence import ArmScores
from stages.evaluate.report.intervals import Row
from stages.evaluate.report.page import render_markdown, render_page
from stages.evaluate.report.plots import get_plots

REPORTS = Path("reports")
PLOTS = Path("plots")
EXAMPLES = 20  # rows shown side by side


def write_reports(
    config: Config,
    report: dict[str, Any],
    records: Sequence[Record],
    predictions: dict[str, list[Prediction]],
    scores: ArmScores,
) -> None:
    """Write `reports/verdict.{json,md,html}`, `reports/measured.json` and `plots/<name>.json`."""
    plots = get_plots(report, config.evaluate.metrics)
    examples = get_examples(report, records, predictions, scores)
    page = render_page(config, report, plots, records[0], examples)
    write_verdict(report)
    atomic_write(REPORTS / "verdict.md", render_markdown(config, report).encode("utf-8", "replace"))
    atomic_write(REPORTS / "verdict.html", page.encode("utf-8", "replace"))
    for name, rows in plots.items():
        write_json(PLOTS / f"{name}.json", [_without_tags(row) for row in rows])


def get_examples(
    report: Mapping[str, Any],
    records: Sequence[Record],
    predictions: dict[str, list[Prediction]],
    scores: ArmScores,
) -> dict[str, list[dict[str, Any]]]:
    """Choose rows on which the tuned arm is better or worse than the best prompted arm.

    Each direction gets half of `EXAMPLES`. If one direction has fewer rows, the other fills up. The
    largest differences in the primary metric come first. Among equal differences, targets that were
    not shown yet come first, then the shortest targets.
    """
    tuned = report["candidate"]
    rival = report["best_prompted_arm"]
    metric = report["primary_metric"]
    ours, theirs = (scores[arm][metric].values for arm in (tuned, rival))
    gain = ours - theirs
    better, worse = (
        _instructive((i for i in range(len(records)) if sign * gain[i] > 0), records, abs(gain))
        for sign in (1, -1)
    )
    half = EXAMPLES // 2

    def show(i: int) -> dict[str, Any]:
        texts = {"tuned": predictions[tuned][i].text, "rival": predictions[rival][i].text}
        row = {"question": records[i].prompt[-1]["content"], "target": records[i].target, **texts}
        return {**row, "tuned_score": float(ours[i]), "rival_score": float(theirs[i])}

    return {
        "better": [show(i) for i in better[: max(half, EXAMPLES - len(worse))]],
        "worse": [show(i) for i in worse[: max(half, EXAMPLES - len(better))]],
    }


def _without_tags(row: Row) -> Row:
    """Replace `<` in the texts of a plot, because `dvc plots show` writes them into a script.

    `</script>` in a label would end that script.
    """
    return {
        key: value.replace("<", "‹") if isinstance(value, str) else value
        for key, value in row.items()
    }


def get_headline(report: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    """Get the numbers for `metrics/evaluate.json` and for the columns of MLflow's table."""
    gap = _decisive(report)
    arms = report["arms"]
    tuned = arms[report["candidate"]]
    return {
        "verdict": report["verdict"],
        **{
            arm: {m: numbers[m]["value"] for m in metrics if m in numbers}
            for arm, numbers in arms.items()
        },
        "primary_difference": {key: gap[key] for key in ("difference", "ci_low", "ci_high")},
        "prompt_tokens_saved": arms[report["best_prompted_arm"]]["prompt_tokens"]
        - tuned["prompt_tokens"],
        "seconds_per_request": tuned["seconds_per_request"],
        "decisive": get_decisive(report),
    }


def get_decisive(report: Mapping[str, Any]) -> dict[str, Any]:
    """Get the few numbers that decide, for the execution's run in MLflow.

    `stages.core.tracking.view` shows them as columns.
    """
    gap = _decisive(report)
    candidate = report["candidate"]
    values = {
        arm: numbers[report["primary_metric"]]["value"] for arm, numbers in report["arms"].items()
    }
    cost = report["costs"]["per_request"][candidate]
    forgotten = (
        report["forgetting"]["abilities"][0]["difference"]["value"]
        if report["forgetting"]
        else None
    )
    numbers = {
        "primary": {**values, "candidate": values[candidate]},
        "primary_difference": gap["difference"],
        "primary_difference_low": gap["ci_low"],
        "primary_difference_high": gap["ci_high"],
        "prompt_tokens": report["arms"][candidate]["prompt_tokens"],
        "cost_of_1000_requests": None if cost is None else 1000 * cost,
        "training_seconds": report["training"]["seconds"],
        "general_suite_lost": None if forgotten is None else -forgotten,
    }
    return {key: value for key, value in numbers.items() if value is not None}


def _instructive(rows: Iterable[int], records: Sequence[Record], size: Any) -> list[int]:
    seen: Counter[str] = Counter()
    order = {}
    for i in sorted(rows, key=lambda i: (-size[i], len(records[i].target), i)):
        order[i] = (-size[i], seen[records[i].target])
        seen[records[i].target] += 1
    return sorted(order, key=order.__getitem__)


def _decisive(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Get the candidate's comparison with the best prompted arm by the primary metric."""
    wanted = report["primary_metric"], report["candidate"], report["best_prompted_arm"]
    return next(c for c in report["comparisons"] if (c["metric"], c["arm"], c["against"]) == wanted)
