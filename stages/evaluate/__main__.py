"""Answer the test split with the tuned model, compare it with every prompted arm, and say whether to fine-tune.

Reads `models/tuned`, `predictions/*.jsonl` and the test split; writes `predictions/tuned.jsonl`,
`reports/verdict.{json,md,html}`, `plots/*.json` and `metrics/evaluate.json`.

    dvc repro evaluate                               # under DVC, with params.yaml
    python -m stages.evaluate evaluate.margin=0.05   # alone, composed from conf/
"""

import hydra

from stages.core.base_models import BaseModel, get_base_model
from stages.core.config import Config
from stages.core.door import door
from stages.core.files import read_json, write_json
from stages.core.models import TUNED, get_tokenizer
from stages.core.predictions import (
    EXTRA,
    GENERAL_TUNED,
    PREDICTIONS,
    TUNED_ARM,
    ask,
    prompted_arms,
    read_predictions,
    write_predictions,
)
from stages.core.records import read_records
from stages.core.tracking import Tracker


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@door("evaluate")
def main(config: Config, tracker: Tracker) -> None:
    """Ask, score, compare, judge, report."""
    from stages.core.engine import get_engine
    from stages.core.general import ask_general
    from stages.core.metrics import Metrics
    from stages.evaluate.analysis import analyse, score_arms
    from stages.evaluate.report import REPORTS, get_headline, write_reports

    test = read_records("test")
    metrics = Metrics(config.evaluate.metrics, config.evaluate.options, config.evaluate.primary_metric)
    predictions = {arm: read_predictions(arm) for arm in prompted_arms(config)}
    scores = score_arms(metrics, test, predictions)  # first: what is wrong here shows before the tuned model has worked
    tokenizer = get_tokenizer(BaseModel(str(TUNED), None, None))
    write_json(EXTRA / "arms.json", config.evaluate.extra_arms)
    long = read_json(PREDICTIONS / "choices.json")["zero_shot"]["instruction"]
    with get_engine(config, get_base_model(config.model, config.seed), tokenizer, TUNED) as engine:
        predictions[TUNED_ARM] = ask(TUNED_ARM, engine, tokenizer, config, test, config.prompt.short_instruction)
        write_predictions(TUNED_ARM, predictions[TUNED_ARM])
        for arm in config.evaluate.extra_arms:
            predictions[arm] = ask(arm, engine, tokenizer, config, test, long)
            write_predictions(f"{EXTRA.name}/{arm}", predictions[arm])
        write_json(GENERAL_TUNED, general := ask_general(engine, tokenizer, config))
    scores |= score_arms(metrics, test, {arm: predictions[arm] for arm in (TUNED_ARM, *config.evaluate.extra_arms)})
    report = analyse(config, test, predictions, scores, metrics)
    write_reports(config, report, test, predictions, scores)
    tracker.headline(get_headline(report, config.evaluate.metrics) | {"general_seconds": general["seconds"]})
    tracker.tag("verdict", report["verdict"])
    for name in ("json", "md", "html"):
        tracker.artifact(REPORTS / f"verdict.{name}")


if __name__ == "__main__":
    main()
