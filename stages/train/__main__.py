"""Tune the base model on the training rows, prompted with the short instruction.

The stage trains one more model for each seed in `train.seeds`. It reads `data/prepared` and writes
`models/tuned`, `metrics/train.json` and `plots/train.json`. For a rival it writes the same files
under the rival's name. If a run is killed, the same command resumes at the last checkpoint.

    # With DVC and params.yaml:
    dvc repro train
    # Without DVC, composed from conf/:
    python -m stages.train train=full seed=1
    # A rival, written to models/rivals/tagger:
    python -m stages.train rivals=encoder-tagger candidate=tagger
    # Two steps and an estimate for the whole training; this writes nothing:
    python -m stages.train train.dry_run=true
"""

import os

import hydra
from omegaconf import DictConfig

from stages.core.config.schema import parse
from stages.core.entrypoint import one_stage_at_a_time, plain_main
from stages.core.errors import UserError
from stages.core.models.candidates import get_candidate
from stages.core.tracking.tracker import track


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@plain_main("train")
def main(cfg: DictConfig) -> None:
    """Train one model per seed, one after another, in this process or in worker processes."""
    from stages.train.run import dry_run, finish, train

    config = parse(cfg)
    candidate = get_candidate(config, config.candidate)
    if candidate.config.train.dry_run and os.environ.get("DVC_STAGE"):
        raise UserError(
            "train.dry_run writes no outputs, so DVC cannot run it: "
            "run `python -m stages.train train.dry_run=true` outside DVC"
        )
    if candidate.config.train.dry_run:
        with track(config, candidate.stage) as tracker:
            dry_run(candidate, tracker)
        return
    with one_stage_at_a_time(), track(config, candidate.stage) as tracker:
        for seed in candidate.seeds:
            if candidate.config.train.launcher.kind == "single":
                train(candidate, seed, tracker)
            else:
                from stages.train.distributed.launch import launch

                launch(candidate, seed, tracker.runs)
        finish(candidate, tracker)


if __name__ == "__main__":
    main()
