"""Answer the test split with the tuned model, compare it with every prompted arm, and say whether to fine-tune.

Reads `models/tuned`, `predictions/*.jsonl` and the test split; writes `predictions/tuned.jsonl`,
`reports/verdict.{json,md,html}`, `plots/*.json` and `metrics/evaluate.json`.

    dvc repro evaluate                               # under DVC, with params.yaml
    python -m stages.evaluate evaluate.margin=0.05   # alone, composed from conf/
"""

import hydra

from stages.core.config import Config
from stages.core.door import door
from stages.core.predictions import prompted_arms, read_predictions
from stages.core.records import read_records
from stages.core.tracking import Tracker


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@door("evaluate")
def main(config: Config, tracker: Tracker) -> None:
    """Ask, score, compare, judge, report."""
    from stages.core.metrics import Metrics
    from stages.evaluate.analysis import analyse, score_arms
    from stages.evaluate.report import REPORTS, get_headline, write_reports
    from stages.evaluate.tuned import ask_tuned, check_method

    check_method(config)
    test = read_records("test")
    metrics = Metrics(config.evaluate.metrics, config.evaluate.options, config.evaluate.primary_metric)
    found = {arm: read_predictions(arm) for arm in prompted_arms(config)}
    predictions = {arm: answers for arm, answers in found.items() if answers}
    scores = score_arms(metrics, test, predictions)  # first: what is wrong here shows before the tuned model has worked
    tuned, general = ask_tuned(config, test)
    predictions |= tuned
    scores |= score_arms(metrics, test, tuned)
    report = analyse(config, test, predictions, scores, metrics)
    write_reports(config, report, test, predictions, scores)
    tracker.headline(get_headline(report, config.evaluate.metrics) | {"general_seconds": general["seconds"]})
    tracker.tag("verdict", report["verdict"])
    for name in ("json", "md", "html"):
        tracker.artifact(REPORTS / f"verdict.{name}")


if __name__ == "__main__":
    main()
