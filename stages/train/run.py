"""Run one training and write its model and its numbers."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from omegaconf import DictConfig

from stages.core.config.schema import Config, parse
from stages.core.data.records import PREPARED, Record, RecordFile
from stages.core.environment.processes import is_main
from stages.core.models.candidates import Candidate, get_candidate
from stages.core.storage.files import atomic_directory, read_json, write_json
from stages.core.storage.summaries import get_summary_file, write_summary
from stages.core.tracking.tracker import Tracker, track
from stages.train import loop
from stages.train.build_trainer import get_trainer
from stages.train.examples import subsample
from stages.train.export import loss_curve, save
from stages.train.libraries import explain_missing_library
from stages.train.methods import get_method
from stages.train.monitoring.checkpoints import lock_run_folder, training_fingerprint
from stages.train.monitoring.divergence import explain_memory

log = logging.getLogger(__name__)
PLOTS = Path("plots")


def work(cfg: DictConfig) -> None:
    """Take part in one training as one of several processes.

    Args:
        cfg: The values that the launching process wrote: `config` and `seed`.
    """
    config = parse(cfg.config)
    candidate = get_candidate(config, config.candidate)
    with track(config, candidate.stage) as tracker:
        train(candidate, cfg.seed, tracker)


def dry_run(candidate: Candidate, tracker: Tracker) -> None:
    """Train for two steps in a temporary folder and log what the whole training would take."""
    method = get_method(candidate.config)
    with (
        tempfile.TemporaryDirectory() as folder,
        explain_memory(candidate.config.train),
        explain_missing_library(),
    ):
        trainer = get_trainer(method, *_read_rows(candidate.config), tracker, folder)
        loop.dry_run(trainer, method)


def train(candidate: Candidate, seed: int, tracker: Tracker) -> None:
    """Train with one seed and write the model folder atomically.

    If the model of this configuration and data exists already, do nothing.
    """
    config = candidate.config
    folder = candidate.get_folder(seed)
    first = seed == candidate.seeds[0]
    plot = PLOTS / f"{candidate.stage}.json"
    written = [folder / "training.json", candidate.get_measured_file(seed)]
    written += [get_summary_file(candidate.stage), plot] if first else []
    method = get_method(config, seed)
    key = training_fingerprint(config, method.base, seed)
    if all(path.exists() for path in written) and read_json(written[0]).get("key") == key:
        log.info("%s is up to date; delete it to retrain.", folder)
        return
    with lock_run_folder(key) as checkpoints:
        with (
            explain_memory(config.train),
            explain_missing_library(),
            tracker.system_metrics(),
        ):
            trainer = get_trainer(method, *_read_rows(config), tracker, str(checkpoints))
            numbers = loop.tune(trainer, method, checkpoints)
        # Every process takes part in gathering the weights. The first one receives and writes them.
        with atomic_directory(folder) if is_main() else nullcontext(checkpoints) as target:
            save(trainer, method, numbers, key, target, candidate.get_measured_file(seed))
        if is_main() and first:
            write_json(plot, loss_curve(trainer))
            write_summary(candidate.stage, numbers)
            tracker.log_summary(numbers)


def finish(candidate: Candidate, tracker: Tracker) -> None:
    """Summarize the models of all seeds, then remove checkpoints and models of former seeds.

    Checkpoints are kept until all seeds are trained, because DVC removes the outputs of a stage
    that it runs again. If the stage was killed during a later seed, the next run restores a
    finished model from its last checkpoint within seconds.
    """
    more = candidate.seeds[1:]
    for seed in candidate.seeds:
        if (candidate.get_folder(seed) / "training.json").exists():
            with lock_run_folder(candidate.read_training(seed)["key"]) as checkpoints:
                shutil.rmtree(checkpoints)
    unwanted = [
        path
        for path in (candidate.get_folder() / "seeds").glob("*")
        if path.name.isdigit() and path.name not in map(str, more)
    ]
    for folder in unwanted:
        shutil.rmtree(folder)
        candidate.get_measured_file(int(folder.name)).unlink(missing_ok=True)
    if more or unwanted:
        of_seeds = {str(seed): candidate.read_training(seed)["numbers"] for seed in more}
        numbers = candidate.read_training()["numbers"] | ({"seeds": of_seeds} if more else {})
        write_summary(candidate.stage, numbers)
        tracker.log_summary(numbers)


def _read_rows(config: Config) -> tuple[Sequence[Record], Sequence[Record]]:
    rows = subsample(
        RecordFile.open(PREPARED / "train.jsonl"), config.train.train_fraction, config.seed
    )
    return rows, RecordFile.open(PREPARED / "validation.jsonl")
