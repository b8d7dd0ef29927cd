"""Tune the base model on the training rows, asked with the short instruction.

Reads `data/prepared`; writes `models/tuned`, `metrics/train.json` and `plots/train.json`. Killed, it goes on from its
last checkpoint when the same command is run again.

    dvc repro train                                  # under DVC, with params.yaml
    python -m stages.train train=full seed=1         # alone, composed from conf/
    python -m stages.train train.dry_run=true        # two steps, what all would take, and nothing is written
"""

import logging
import os
import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path

import hydra
from omegaconf import DictConfig

from stages.core.config import Config, parse
from stages.core.door import plain_door
from stages.core.errors import UserError
from stages.core.files import read_json, whole_folder, write_json
from stages.core.models import TUNED
from stages.core.ranks import is_main, is_worker
from stages.core.records import read_records
from stages.core.tracking import Tracker, track

log = logging.getLogger(__name__)
WRITTEN = (TUNED / "training.json", Path("metrics/train.json"), Path("plots/train.json"))


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@plain_door("train")
def main(cfg: DictConfig) -> None:
    """Train in this process, or launch the processes that do."""
    config = parse(cfg)
    if config.train.dry_run and os.environ.get("DVC_STAGE"):
        raise UserError("train.dry_run writes nothing: run `python -m stages.train train.dry_run=true` outside DVC")
    with track(config, "train") as tracker:
        if config.train.launcher.kind != "single" and not is_worker() and not config.train.dry_run:
            from stages.train.launch import launch

            launch(config, tracker.runs)
        else:
            train(config, tracker)


def train(config: Config, tracker: Tracker) -> None:
    """Train, then put the whole folder in its place."""
    from stages.train.assembly import get_trainer
    from stages.train.checkpoints import get_key, hold
    from stages.train.examples import take_share
    from stages.train.methods import get_method
    from stages.train.saving import loss_curve, save
    from stages.train.tuning import rehearse, tune
    from stages.train.watch import explain_memory

    method = get_method(config)
    records = take_share(read_records("train"), config.train.share, config.seed), read_records("validation")
    if config.train.dry_run:
        with tempfile.TemporaryDirectory() as folder, explain_memory(config.train):
            trainer = get_trainer(method, *records, tracker, folder)
            rehearse(trainer, method)
        return
    key = get_key(config, method.base)
    if all(path.exists() for path in WRITTEN) and read_json(WRITTEN[0]).get("key") == key:
        log.info("%s is of this configuration and these rows already; remove it to train it again.", TUNED)
        return
    with hold(key) as checkpoints:
        with explain_memory(config.train), tracker.system_metrics():
            trainer = get_trainer(method, *records, tracker, str(checkpoints))
            numbers = tune(trainer, method, checkpoints)
        # Every process takes part in gathering the weights; the first one has them and writes.
        with whole_folder(TUNED) if is_main() else nullcontext(checkpoints) as target:
            save(trainer, method, numbers, key, target)
        if is_main():
            write_json(Path("plots/train.json"), loss_curve(trainer))
            tracker.headline(numbers)
            shutil.rmtree(checkpoints)


if __name__ == "__main__":
    main()
