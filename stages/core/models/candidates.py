"""The tuned models of a run: that of `train` and those of `rivals`, and each of them as often as it has seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.config.arms import TUNED_ARM
from stages.core.config.schema import Config
from stages.core.data.predictions import (
    GENERAL_TUNED,
    PREDICTIONS,
    Prediction,
    read_predictions,
    write_predictions,
)
from stages.core.models.loading import TUNED
from stages.core.storage.files import read_json

MODELS = Path("models/rivals")
MEASURED = Path("models/measured")
RIVALS = PREDICTIONS / "rivals"
SEEDS = PREDICTIONS / "seeds"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to tune. It is an arm under its name, by the model of its first seed."""

    name: str
    """`tuned`, or the name of the rival."""
    config: Config
    """The whole configuration, with the candidate's own section as `train`."""
    run: Config
    """The configuration of the run, as it was given."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of training: the global `seed` first, then those of `train.seeds`."""
        return tuple(dict.fromkeys((self.config.seed, *self.config.train.seeds)))

    @property
    def stage(self) -> str:
        """What its numbers and its MLflow run are called: `train`, or `rivals/<name>`."""
        return "train" if self.name == TUNED_ARM else f"rivals/{self.name}"

    @property
    def general(self) -> Path:
        """The file with its answers to the general suite."""
        return GENERAL_TUNED if self.name == TUNED_ARM else RIVALS / f"{self.name}.general.json"

    def get_folder(self, seed: int | None = None) -> Path:
        """Where the model of a seed is (the first one where none is given): weights, tokenizer, `training.json`."""
        folder = TUNED if self.name == TUNED_ARM else MODELS / self.name
        return folder if seed in (None, self.config.seed) else folder / "seeds" / str(seed)

    def get_measured_file(self, seed: int | None = None) -> Path:
        """What the training of a seed took. It lies outside of the folder, so that the same model has the same hash."""
        return MEASURED / self.name / f"{self.config.seed if seed is None else seed}.json"

    def read_training(self, seed: int | None = None) -> dict[str, Any]:
        """`training.json` of a seed and what its training took: under `numbers` the losses, tokens and seconds.

        Raises:
            UserError: it has not been trained.
        """
        training = read_json(self.get_folder(seed) / "training.json")
        measured = read_json(self.get_measured_file(seed))
        return {**training, **measured, "numbers": training["numbers"] | measured["numbers"]}

    def read_predictions(self) -> list[list[Prediction]]:
        """The answers of the model of each seed, in the order of `seeds`.

        Raises:
            UserError: the stage `evaluate` has not asked them.
        """
        return [read_predictions(self._get_name(seed)) for seed in self.seeds]

    def write_predictions(self, seed: int, predictions: Sequence[Prediction]) -> None:
        """Write the answers of the model of a seed."""
        write_predictions(self._get_name(seed), predictions)

    def get_predictions_file(self, seed: int) -> Path:
        """The file with the answers of the model of a seed."""
        return PREDICTIONS / f"{self._get_name(seed)}.jsonl"

    def _get_name(self, seed: int) -> str:
        """Of that file, without folder and ending: `tuned`, `rivals/<name>`, `seeds/<name>/<seed>`."""
        if seed != self.config.seed:
            return f"{SEEDS.name}/{self.name}/{seed}"
        return TUNED_ARM if self.name == TUNED_ARM else f"{RIVALS.name}/{self.name}"


def tuned_candidates(config: Config) -> list[Candidate]:
    """All of them, the one of `train` first."""
    rivals = {
        name: config.model_copy(update={"train": section})
        for name, section in config.rivals.items()
    }
    return [
        Candidate(TUNED_ARM, config, config),
        *(Candidate(name, found, config) for name, found in rivals.items()),
    ]


def get_candidate(config: Config, name: str) -> Candidate:
    """The candidate of that name, which the configuration has."""
    return next(candidate for candidate in tuned_candidates(config) if candidate.name == name)


def get_recommended(config: Config, arm: str) -> Candidate:
    """The candidate that a verdict recommends, for the registry; that of `train` where it recommends no tuned model."""
    candidates = tuned_candidates(config)
    return next((candidate for candidate in candidates if candidate.name == arm), candidates[0])
