"""Tune the base model on the training rows, asked with the short instruction; once more for each of `train.seeds`.

Reads `data/prepared`; writes `models/tuned`, `metrics/train.json` and `plots/train.json`, and of a rival the same under
its name. Killed, it goes on from its last checkpoint when the same command is run again.

    dvc repro train                                  # under DVC, with params.yaml
    python -m stages.train train=full seed=1         # alone, composed from conf/
    python -m stages.train rivals=encoder-tag candidate=tagger    # a rival: models/rivals/tagger
    python -m stages.train train.dry_run=true        # two steps, what all would take, and nothing is written
"""

import os

import hydra
from omegaconf import DictConfig

from stages.core.config.schema import parse
from stages.core.entrypoint import plain_main
from stages.core.errors import UserError
from stages.core.models.candidates import get_candidate
from stages.core.tracking.tracker import track


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@plain_main("train")
def main(cfg: DictConfig) -> None:
    """Train the model of each seed, one after the other, in this process or in those that it launches."""
    from stages.train.run import finish, rehearse, train

    config = parse(cfg)
    candidate = get_candidate(config, config.candidate)
    if candidate.config.train.dry_run and os.environ.get("DVC_STAGE"):
        raise UserError(
            "train.dry_run writes nothing: run `python -m stages.train train.dry_run=true` outside DVC"
        )
    with track(config, candidate.stage) as tracker:
        if candidate.config.train.dry_run:
            rehearse(candidate, tracker)
            return
        for seed in candidate.seeds:
            if candidate.config.train.launcher.kind == "single":
                train(candidate, seed, tracker)
            else:
                from stages.train.distributed.launch import launch

                launch(candidate, seed, tracker.runs)
        finish(candidate, tracker)


if __name__ == "__main__":
    main()
