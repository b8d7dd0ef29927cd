"""Tune the base model on the training rows, asked with the short instruction.

Reads `data/prepared`; writes `models/tuned`, `metrics/train.json` and `plots/train.json`.

    dvc repro train                                  # under DVC, with params.yaml
    python -m stages.train train=full seed=1         # alone, composed from conf/
    python -m stages.train train.dry_run=true        # two steps, what all would take, and nothing is written
"""

import os
import tempfile
from pathlib import Path

import hydra

from stages.core.base_models import get_base_model
from stages.core.config import Config
from stages.core.door import door
from stages.core.errors import UserError
from stages.core.files import whole_folder, write_json
from stages.core.models import TUNED, get_tokenizer
from stages.core.records import read_records
from stages.core.tracking import Tracker


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@door("train")
def main(config: Config, tracker: Tracker) -> None:
    """Train, then put the whole folder in its place."""
    from stages.train.examples import get_examples, take_share
    from stages.train.tuning import expect, get_trainer, loss_curve, rehearse, save, tune
    from stages.train.watch import explain_memory

    if config.train.dry_run and os.environ.get("DVC_STAGE"):
        raise UserError("train.dry_run writes nothing: run `python -m stages.train train.dry_run=true` outside DVC")
    base = get_base_model(config.model, config.seed)
    tokenizer = get_tokenizer(base)
    records = take_share(read_records("train"), config.train.share, config.seed)
    train = get_examples(config, tokenizer, records)
    validation = get_examples(config, tokenizer, read_records("validation"))
    ids = [record.id for record in records]
    with tempfile.TemporaryDirectory() as folder, explain_memory(config.train):
        trainer = get_trainer(config, base, tokenizer, train, ids, validation, tracker, folder)
        if config.train.dry_run:
            rehearse(trainer, expect(config, base, train))
            return
        numbers = tune(trainer, expect(config, base, train), config.energy)
    with whole_folder(TUNED) as target:
        save(trainer, tokenizer, config, base, numbers, target)
    write_json(Path("plots/train.json"), loss_curve(trainer))
    tracker.headline(numbers)


if __name__ == "__main__":
    main()
