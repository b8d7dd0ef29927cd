"""Answer the test split with the tuned model, compare it with every prompted arm, and say whether to fine-tune.

Reads `models/tuned`, `predictions/*.jsonl` and the test split; writes `predictions/tuned.jsonl`,
`reports/verdict.{json,md,html}`, `plots/arms.json` and `metrics/evaluate.json`.

    dvc repro evaluate                               # under DVC, with params.yaml
    python -m stages.evaluate evaluate.margin=0.05   # alone, composed from conf/
"""

import hydra

from stages.core.base_models import BaseModel, get_base_model
from stages.core.config import Config
from stages.core.door import door
from stages.core.files import read_json, write_json
from stages.core.models import TUNED, get_tokenizer, get_tuned_model
from stages.core.predictions import (
    BASE_ARMS,
    EXTRA,
    GENERAL_TUNED,
    PREDICTIONS,
    TUNED_ARM,
    ask,
    read_predictions,
    write_predictions,
)
from stages.core.records import read_records
from stages.core.tracking import Tracker


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@door("evaluate")
def main(config: Config, tracker: Tracker) -> None:
    """Ask, score, compare, judge, report."""
    from stages.core.general import ask_general
    from stages.evaluate.analysis import analyse, score_arms
    from stages.evaluate.report import REPORTS, get_headline, write_reports

    test = read_records("test")
    predictions = {arm: read_predictions(arm) for arm in BASE_ARMS}
    tokenizer = get_tokenizer(BaseModel(str(TUNED), None, None))
    model = get_tuned_model(get_base_model(config.model, config.seed), config.model.dtype)
    predictions[TUNED_ARM] = ask(TUNED_ARM, model, tokenizer, config, test, config.prompt.short_instruction)
    write_predictions(TUNED_ARM, predictions[TUNED_ARM])
    EXTRA.mkdir(parents=True, exist_ok=True)
    long = read_json(PREDICTIONS / "choices.json")["zero_shot"]["instruction"]
    for arm in config.evaluate.extra_arms:
        predictions[arm] = ask(arm, model, tokenizer, config, test, long)
        write_predictions(f"{EXTRA.name}/{arm}", predictions[arm])
    write_json(GENERAL_TUNED, ask_general(model, tokenizer, config) if config.evaluate.forgetting else {})
    scores = score_arms(config, test, predictions)
    report = analyse(config, test, predictions, scores)
    write_reports(config, report, test, predictions, scores)
    tracker.headline(get_headline(report, config.evaluate.metrics))
    tracker.tag("verdict", report["verdict"])
    for name in ("json", "md", "html"):
        tracker.artifact(REPORTS / f"verdict.{name}")


if __name__ == "__main__":
    main()
