"""Evaluate the tuned model, compare it with every other arm, and say whether to fine-tune.

The stage reads `models/tuned`, `predictions/*.jsonl` and the test split, or the validation split
with `evaluate.split=validation`. It writes `predictions/tuned.jsonl`,
`reports/verdict.{json,md,html}`, `reports/measured.json`, `plots/*.json` and
`metrics/evaluate.json`. It also writes one file in `data/test_looks` for each model that is judged
on the test rows for the first time.

    dvc repro evaluate                               # under DVC, with params.yaml
    python -m stages.evaluate evaluate.margin=0.05   # alone, composed from conf/
"""

import hydra

from stages.core.config.schema import Config
from stages.core.data.predictions import read_arms
from stages.core.data.records import read_records
from stages.core.entrypoint import stage_main
from stages.core.storage.summaries import write_summary
from stages.core.tracking.tracker import Tracker


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@stage_main("evaluate")
def main(config: Config, tracker: Tracker) -> None:
    """Run the stage: generate answers, score them, judge the arms and write the reports."""
    from stages.core.metrics.metric_check import check_metrics
    from stages.core.metrics.metrics import Metrics
    from stages.core.models.loading import weights_sha256
    from stages.evaluate.analysis.analyse import analyse
    from stages.evaluate.analysis.evidence import gather, score_arms
    from stages.evaluate.analysis.looks import count_looks
    from stages.evaluate.report.write import REPORTS, get_headline, write_reports
    from stages.evaluate.tuned import ask_tuned, check_method

    check_method(config)
    records = read_records(config.evaluate.split)
    metrics = Metrics(
        config.evaluate.metrics, config.evaluate.options, config.evaluate.primary_metric
    )
    check_metrics(metrics, records, config.seed)
    predictions = read_arms(config)
    # Score the stored answers first, so that a mistake shows before the tuned model runs.
    scores = score_arms(metrics, records, predictions)
    tuned, general = ask_tuned(config, records)
    predictions |= tuned
    scores |= score_arms(metrics, records, tuned)
    evidence = gather(config, records, metrics, predictions, scores)
    weights = {
        name: weights_sha256(candidate.get_folder())
        for name, candidate in evidence.candidates.items()
    }
    looks = count_looks(
        config, tracker, {weights[name]: scores[name][evidence.primary].value for name in weights}
    )
    report = analyse(evidence, looks, weights)
    write_reports(config, report, records, predictions, scores)
    numbers = get_headline(report, config.evaluate.metrics)
    numbers |= {"general_suite_seconds": general["seconds"], "test_looks": looks.count}
    write_summary("evaluate", numbers)
    tracker.log_summary(numbers)
    tracker.set_tag("verdict", report["verdict"])
    tracker.set_tag("primary_metric", report["primary_metric"])
    for name in ("json", "md", "html"):
        tracker.log_artifact(REPORTS / f"verdict.{name}")


if __name__ == "__main__":
    main()
