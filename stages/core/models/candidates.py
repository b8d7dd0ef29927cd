"""The tuned models of a run: those of `train` and of `rivals`, each with one model per seed."""

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
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles
from stages.core.models.encoders import get_encoder
from stages.core.models.loading import TUNED
from stages.core.storage.files import read_json

MODELS = Path("models/rivals")
MEASURED = Path("models/measured")
RIVALS = PREDICTIONS / "rivals"
SEEDS = PREDICTIONS / "seeds"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to tune a model.

    The candidate is an arm under its name. The model of its first seed stands for it.
    """

    name: str
    """`tuned` or the name of the rival."""
    config: Config
    """The whole configuration, with the candidate's own section as `train`."""
    run: Config
    """The unchanged configuration of the run."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds: the global `seed` first, then those of `train.seeds`."""
        return tuple(dict.fromkeys((self.config.seed, *self.config.train.seeds)))

    @property
    def stage(self) -> str:
        """The name of its numbers and of its MLflow run: `train` or `rivals/<name>`."""
        return "train" if self.name == TUNED_ARM else f"rivals/{self.name}"

    @property
    def general(self) -> Path:
        """The file with its answers to the general suite."""
        return GENERAL_TUNED if self.name == TUNED_ARM else RIVALS / f"{self.name}.general.json"

    def get_folder(self, seed: int | None = None) -> Path:
        """Return the folder of a seed's model with weights, tokenizer and `training.json`.

        Without a seed it is the folder of the first seed.
        """
        folder = TUNED if self.name == TUNED_ARM else MODELS / self.name
        return folder if seed in (None, self.config.seed) else folder / "seeds" / str(seed)

    def get_measured_file(self, seed: int | None = None) -> Path:
        """Return the file with the seconds and other measurements of a seed's training.

        It is outside the model's folder, so that equal models have equal hashes.
        """
        return MEASURED / self.name / f"{self.config.seed if seed is None else seed}.json"

    def read_training(self, seed: int | None = None) -> dict[str, Any]:
        """Read `training.json` of a seed, merged with the measurements of its training.

        The losses, tokens and seconds are under `numbers`.

        Raises:
            UserError: The seed has not been trained.
        """
        training = read_json(self.get_folder(seed) / "training.json")
        measured = read_json(self.get_measured_file(seed))
        return {**training, **measured, "numbers": training["numbers"] | measured["numbers"]}

    def get_base(self, seed: int | None = None) -> ModelFiles:
        """Return the files of the base model, which are fetched or created if they are not cached.

        Raises:
            UserError: They are not those that the seed was trained on.
        """
        base = get_encoder(self.config)
        training = self.get_folder(seed) / "training.json"
        trained = read_json(training)["base_model"]
        before = (trained["sha256"], trained["revision"])
        if (base.sha256, base.revision) != before:
            raise UserError(
                f"{base.path} is not the base model that {training} was trained on "
                f"({_shorten(base.sha256, base.revision)} instead of {_shorten(*before)}). "
                "Run `dvc repro`, which trains on it"
            )
        return base

    def read_predictions(self) -> list[list[Prediction]]:
        """Read the answers of the model of each seed, in the order of `seeds`.

        Raises:
            UserError: The stage `evaluate` has not written them.
        """
        return [read_predictions(self._get_name(seed)) for seed in self.seeds]

    def write_predictions(self, seed: int, predictions: Sequence[Prediction]) -> None:
        """Write the answers of the model of a seed."""
        write_predictions(self._get_name(seed), predictions)

    def get_predictions_file(self, seed: int) -> Path:
        """Return the file with the answers of the model of a seed."""
        return PREDICTIONS / f"{self._get_name(seed)}.jsonl"

    def _get_name(self, seed: int) -> str:
        """Name a seed's file of answers: `tuned`, `rivals/<name>` or `seeds/<name>/<seed>`."""
        if seed != self.config.seed:
            return f"{SEEDS.name}/{self.name}/{seed}"
        return TUNED_ARM if self.name == TUNED_ARM else f"{RIVALS.name}/{self.name}"


def tuned_candidates(config: Config) -> list[Candidate]:
    """Return all candidates of a configuration, the one of `train` first."""
    rivals = {
        name: config.model_copy(update={"train": section})
        for name, section in config.rivals.items()
    }
    return [
        Candidate(TUNED_ARM, config, config),
        *(Candidate(name, found, config) for name, found in rivals.items()),
    ]


def get_candidate(config: Config, name: str) -> Candidate:
    """Return the candidate with a name that the configuration has."""
    return next(candidate for candidate in tuned_candidates(config) if candidate.name == name)


def get_recommended(config: Config, arm: str) -> Candidate:
    """Return the candidate that a verdict recommends, for the registry.

    If the verdict does not recommend a tuned model, it is the candidate of `train`.
    """
    candidates = tuned_candidates(config)
    return next((candidate for candidate in candidates if candidate.name == arm), candidates[0])


def _shorten(sha256: str | None, revision: str | None) -> str:
    return f"SHA-256 {sha256[:12]}" if sha256 else f"revision {revision}"
