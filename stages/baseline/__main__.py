"""Answer the judged split with the alternatives to fine-tuning.

The arms without a model are `constant`, `nearest` and `lookup`. The arms on the base model are
`zero_shot`, `few_shot` and `retrieval`. If the targets are a closed set, `constrained` joins them
and answers only with one of the targets. With `prompt.remote`, a model behind an endpoint answers
too.

The stage reads `data/prepared`. It writes `predictions/<arm>.jsonl`, `predictions/choices.json`,
the base model's answers to the general suite and `metrics/baseline.json`.

Each prompted arm chooses its instruction and its examples on validation rows (`prompt.search`), so
that the tuned model does not win against a straw man. The stage does not depend on training, so a
sweep over training settings runs it once. The exception is `prompt.search.budget=training`, where
the search may use as many tokens as training.

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
    """Write the predictions of every arm that needs no training, and their headline numbers."""
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
    # `evaluate` checks the other metrics. Nothing here depends on them.
    primary = config.evaluate.primary_metric
    check_metrics(
        Metrics([primary], config.evaluate.options, primary), [*validation, *judged], config.seed
    )
    retriever = get_retriever(config.prompt, train)
    without_model = answer_without_model(retriever, train, judged)
    tokenizer = get_tokenizer(get_base_tokenizer(config.model))
    arms = Arms(config, tokenizer, train, validation, judged, retriever)
    if config.prompt.remote:
        # The remote arm runs first, so that a wrong key or address fails before hours of work.
        remote = Remote(config, config.prompt.remote, tokenizer, train, retriever)
        arms.answer(REMOTE_ARM, remote)
        arms.choices[REMOTE_ARM]["endpoint"] = remote.metadata()
    else:
        write_predictions(REMOTE_ARM, [])
    base = get_base_model(config.model, config.seed)
    with get_engine(config, base, tokenizer) as engine:
        arms.answer_all(engine)
        general = ask_general(engine, tokenizer, config)
    general_suite_seconds = general.pop("seconds")
    write_json(GENERAL_BASE, general)
    write_choices({arm: arms.choices[arm] for arm in prompted_arms(config)})
    numbers = without_model | arms.numbers | {"general_suite_seconds": general_suite_seconds}
    write_summary("baseline", numbers)
    tracker.log_summary(numbers)


if __name__ == "__main__":
    main()
