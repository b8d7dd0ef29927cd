"""The verdict for a machine, for a pull request and for a meeting."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.config import Config
from stages.core.files import write_bytes, write_json
from stages.core.predictions import TUNED_ARM, Prediction
from stages.core.records import Record
from stages.evaluate.analysis import ArmScores
from stages.evaluate.plots import arms_plot, differences_plot, slices_plot, tokens_plot

REPORTS = Path("reports")
EXAMPLES = 10  # rows of each kind shown side by side


def write_reports(
    config: Config,
    report: dict[str, Any],
    records: Sequence[Record],
    predictions: dict[str, list[Prediction]],
    scores: ArmScores,
) -> None:
    """Write `reports/verdict.{json,md,html}` and `plots/arms.json`."""
    metrics = config.evaluate.metrics
    html = _render(
        "report.html.j2",
        report=report,
        config=config,
        metrics=metrics,
        arms=arms_plot(report, metrics),
        differences=differences_plot(report, metrics),
        tokens=tokens_plot(report),
        slices=slices_plot(report) if report["slices"] else "",
        example=records[0],
        examples=get_examples(report, records, predictions, scores),
    )
    markdown = _render("report.md.j2", report=report, config=config, metrics=metrics)
    rows = [
        {"arm": arm, "metric": metric, **numbers[metric]}
        for arm, numbers in report["arms"].items()
        for metric in metrics
    ]
    write_json(REPORTS / "verdict.json", report)
    write_bytes(REPORTS / "verdict.md", markdown.encode())
    write_bytes(REPORTS / "verdict.html", html.encode())
    write_json(Path("plots/arms.json"), rows)


def get_examples(
    report: dict[str, Any], records: Sequence[Record], predictions: dict[str, list[Prediction]], scores: ArmScores
) -> dict[str, list[dict[str, str]]]:
    """Rows on which the tuned arm and the best prompted one differ by the primary metric, each way round."""
    rival, metric = report["best_prompted_arm"], report["primary_metric"]
    gain = _row_scores(scores, TUNED_ARM, metric) - _row_scores(scores, rival, metric)
    order = sorted(range(len(records)), key=lambda i: (-abs(gain[i]), len(records[i].target), i))

    def rows(wanted: Sequence[int]) -> list[dict[str, str]]:
        return [
            {
                "question": records[i].prompt[-1]["content"],
                "target": records[i].target,
                "tuned": predictions[TUNED_ARM][i].text,
                "rival": predictions[rival][i].text,
            }
            for i in wanted[:EXAMPLES]
        ]

    return {
        "better": rows([i for i in order if gain[i] > 0]),
        "worse": rows([i for i in order if gain[i] < 0]),
    }


def get_headline(report: dict[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    """The numbers for `metrics/evaluate.json` and for the columns of MLflow's table."""
    primary = report["primary_metric"]
    gaps = [c for c in report["comparisons"] if c["metric"] == primary and c["against"] == report["best_prompted_arm"]]
    return {
        "verdict": report["verdict"],
        **{arm: {m: numbers[m]["value"] for m in metrics} for arm, numbers in report["arms"].items()},
        "gain": {key: gaps[0][key] for key in ("difference", "ci_low", "ci_high")},
        "prompt_tokens_saved": report["arms"][report["best_prompted_arm"]]["prompt_tokens"]
        - report["arms"][TUNED_ARM]["prompt_tokens"],
        "seconds_per_request": report["arms"][TUNED_ARM]["seconds_per_request"],
    }


def _row_scores(scores: ArmScores, arm: str, metric: str) -> Any:
    return scores[arm][metric].values


def _render(template: str, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader,
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = lambda e: f"{e['value']:.3f} ({e['ci_low']:.3f} to {e['ci_high']:.3f})"
    environment.filters["p"] = "{:.2g}".format
    return environment.get_template(template).render(**values)
