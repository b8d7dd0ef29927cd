"""Answer the test split with the alternatives to fine-tuning: zero-shot, few-shot and retrieval on the base model.

Reads `data/prepared`; writes `predictions/{zero_shot,few_shot,retrieval}.jsonl`, `predictions/choices.json`, the base
model's answers to the general suite and `metrics/baseline.json`. Each arm chooses its instruction and its number of
examples on validation rows, so that the tuned model does not win against a straw man. Nothing here depends on training:
a sweep over training settings runs it once.

    dvc repro baseline                        # under DVC, with params.yaml
    python -m stages.baseline prompt.shots=[3]  # alone, composed from conf/
"""

import hydra

from stages.core.base_models import get_base_model
from stages.core.config import Config
from stages.core.door import door
from stages.core.files import write_json
from stages.core.models import get_model, get_tokenizer
from stages.core.predictions import BASE_ARMS, GENERAL_BASE, PREDICTIONS, headline, write_predictions
from stages.core.records import SPLITS, read_records
from stages.core.tracking import Tracker


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@door("baseline")
def main(config: Config, tracker: Tracker) -> None:
    """Let each prompted arm choose how it asks, then ask the base model."""
    from stages.baseline.arms import choose, get_asker
    from stages.core.general import ask_general

    base = get_base_model(config.model, config.seed)
    tokenizer, model = get_tokenizer(base), get_model(base, config.model.dtype)
    train, validation, test = (read_records(split) for split in SPLITS)
    asker = get_asker(config, model, tokenizer, train)
    numbers, choices = {}, {}
    for arm in BASE_ARMS:
        choices[arm] = choose(config, asker, arm, validation)
        predictions = asker(arm, test, choices[arm].instruction, choices[arm].shots)
        write_predictions(arm, predictions)
        numbers[arm] = {**headline(predictions), "shots": choices[arm].shots}
    write_json(PREDICTIONS / "choices.json", choices)
    write_json(GENERAL_BASE, ask_general(model, tokenizer, config) if config.evaluate.forgetting else {})
    tracker.headline(numbers)


if __name__ == "__main__":
    main()
