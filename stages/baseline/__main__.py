"""Answer the test split with the alternatives to fine-tuning: zero-shot, few-shot and retrieval on the base model.

Reads `data/prepared`; writes `predictions/{zero_shot,few_shot,retrieval}.jsonl` and `metrics/baseline.json`. Nothing
here depends on training: a sweep over training settings runs it once.

    dvc repro baseline                        # under DVC, with params.yaml
    python -m stages.baseline prompt.shots=3  # alone, composed from conf/
"""

import hydra

from stages.core.base_models import get_base_model
from stages.core.config import Config
from stages.core.door import door
from stages.core.models import get_model, get_tokenizer
from stages.core.predictions import BASE_ARMS, answer, headline
from stages.core.records import read_records
from stages.core.tracking import Tracker


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@door("baseline")
def main(config: Config, tracker: Tracker) -> None:
    """Ask the base model in each prompted arm."""
    from stages.baseline.shots import get_shots

    train, test = read_records("train"), read_records("test")
    base = get_base_model(config.model, config.seed)
    tokenizer, model = get_tokenizer(base), get_model(base, config.model.dtype)
    numbers = {}
    for arm in BASE_ARMS:
        shots = get_shots(arm, train, test, config.prompt.shots, config.seed)
        numbers[arm] = headline(answer(arm, model, tokenizer, config, test, config.prompt.instruction, shots))
    tracker.headline(numbers)


if __name__ == "__main__":
    main()
