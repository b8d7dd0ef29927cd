"""Answer the judged split with the alternatives to fine-tuning: without a model, and by prompting the base model.

Without a model: `constant`, `nearest` and `lookup`. On the base model: zero-shot, few-shot, retrieval, and, where the
targets are a closed set, `constrained`, which can answer nothing else. With `prompt.remote` another model, behind an
endpoint, answers too. Reads `data/prepared`; writes `predictions/<arm>.jsonl`, `predictions/choices.json`, the base
model's answers to the general suite and `metrics/baseline.json`. Each prompted arm chooses its instruction and its
examples on validation rows (`prompt.search`), so that the tuned model does not win against a straw man. Nothing here
depends on training, except the budget of the search where it is that of training: a sweep over training settings runs
it once.

    dvc repro baseline                        # under DVC, with params.yaml
    python -m stages.baseline prompt.shots=[3]  # alone, composed from conf/
"""

import hydra

from stages.core.config.arms import REMOTE_ARM
from stages.core.config.schema import Config
from stages.core.data.predictions import (
    GENERAL_BASE,
    prompted_arms,
    write_choices,
    write_predictions,
)
from stages.core.data.records import read_records
from stages.core.entrypoint import stage_main
from stages.core.models.base_models import get_base_model, get_base_tokenizer
from stages.core.models.loading import get_tokenizer
from stages.core.storage.files import write_json
from stages.core.storage.summaries import write_summary
from stages.core.tracking.tracker import Tracker


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@stage_main("baseline")
def main(config: Config, tracker: Tracker) -> None:
    """Let each prompted arm choose how it asks, then ask the base model."""
    from stages.baseline.arms import Arms
    from stages.baseline.model_free import answer_without_model
    from stages.baseline.remote import Remote
    from stages.baseline.retrieval import get_retriever
    from stages.core.inference.engine import get_engine
    from stages.core.inference.general import ask_general
    from stages.core.metrics.metric_check import check_metrics
    from stages.core.metrics.metrics import Metrics

    train, validation, judged = (
        read_records(split) for split in ("train", "validation", config.evaluate.split)
    )
    primary = (
        config.evaluate.primary_metric
    )  # `evaluate` checks the others: nothing here depends on them
    check_metrics(
        Metrics([primary], config.evaluate.options, primary), [*validation, *judged], config.seed
    )
    retriever = get_retriever(config.prompt, train)
    without_model = answer_without_model(retriever, train, judged)
    tokenizer = get_tokenizer(get_base_tokenizer(config.model))
    arms = Arms(config, tokenizer, train, validation, judged, retriever)
    if (
        config.prompt.remote
    ):  # first: a wrong key or address shows before the base model has worked for hours
        remote = Remote(config, config.prompt.remote, tokenizer, train, retriever)
        arms.answer(REMOTE_ARM, remote)
        arms.choices[REMOTE_ARM]["endpoint"] = remote.facts()
    else:
        write_predictions(REMOTE_ARM, [])
    base = get_base_model(config.model, config.seed)
    with get_engine(config, base, tokenizer) as engine:
        arms.answer_all(engine)
        general = ask_general(engine, tokenizer, config)
    general_seconds = general.pop("seconds")
    write_json(GENERAL_BASE, general)
    write_choices({arm: arms.choices[arm] for arm in prompted_arms(config)})
    numbers = without_model | arms.numbers | {"general_seconds": general_seconds}
    write_summary("baseline", numbers)
    tracker.log_summary(numbers)


if __name__ == "__main__":
    main()
