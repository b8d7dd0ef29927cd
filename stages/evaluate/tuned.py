"""Generate the answers of the tuned models to the test split and to the general suite."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.core.config.arms import TUNED_ARM
from stages.core.config.schema import Config
from stages.core.config.train import ANSWERING, CLASSIFYING
from stages.core.data.predictions import EXTRA, Prediction, read_choices, write_predictions
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.inference.asking import ask
from stages.core.models.base_models import ModelFiles, get_base_model
from stages.core.models.candidates import MODELS, RIVALS, SEEDS, Candidate, tuned_candidates
from stages.core.models.loading import get_tokenizer
from stages.core.storage.files import write_json
from stages.evaluate.costs.timings import BASE, Rounds, time_classifier, time_engine, write_timings

Answers = dict[str, list[Prediction]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold what one model answered and how fast it is."""

    answers: Answers
    general: dict[str, Any]
    """The answers to the general suite."""
    rounds: Rounds
    """The measured token rates; empty if the rounds of another model apply to this one."""


def check_method(config: Config) -> None:
    """Check that training makes a model that can be an arm.

    Raises:
        UserError: The training method trains a judge, which answers no prompts.
    """
    if config.train.method not in (*ANSWERING, *CLASSIFYING):
        raise UserError(
            f"train={config.train.method} trains a judge, which answers no prompts, so there is "
            "nothing to evaluate. Run `dvc repro train` instead; the accuracy on validation pairs "
            "is in metrics/train.json"
        )


def ask_tuned(config: Config, test: Sequence[Record]) -> tuple[Answers, dict[str, Any]]:
    """Ask the tuned model and its rivals, with every training seed, and write their answers.

    Only the first seed of each candidate is an arm. `Candidate.read_predictions` reads the answers
    of the others.

    Returns:
        The answers of each arm, and the answers of `tuned` to the general suite in the form of
        `stages.core.inference.general.ask_general`.
    """
    candidates = tuned_candidates(config)
    _forget_others(candidates)
    write_json(EXTRA / "arms.json", config.evaluate.extra_arms)
    write_json(RIVALS / "arms.json", list(config.rivals))  # DVC needs a folder that is not empty
    write_json(SEEDS / "seeds.json", {candidate.name: candidate.seeds for candidate in candidates})
    found: Answers = {}
    general: dict[str, dict[str, Any]] = {}
    # One entry serves all models with the base model's layers. Each classifier has its own.
    timings: dict[str, Rounds] = {}
    for candidate in candidates:
        classifies = candidate.config.train.method in CLASSIFYING
        for seed in candidate.seeds:
            asked = (_classify if classifies else _generate)(candidate, seed, test)
            candidate.write_predictions(seed, asked.answers[candidate.name])
            if seed == candidate.seeds[0]:
                found |= asked.answers
                general[candidate.name] = asked.general
                answered = {key: value for key, value in asked.general.items() if key != "seconds"}
                write_json(candidate.general, answered)
                if asked.rounds:
                    timings[candidate.name if classifies else BASE] = asked.rounds
    if BASE not in timings:
        timings[BASE] = _time_base(config)
    write_timings(timings)
    return found, general[TUNED_ARM]


def _forget_others(candidates: Sequence[Candidate]) -> None:
    """Remove the models of rivals that are no longer in the configuration.

    DVC keeps the outputs of a stage that was removed. `evaluate` depends on the whole folder of
    models, so leftovers would give it a hash that no fresh clone can reproduce.
    """
    names = {candidate.name for candidate in candidates}
    for folder in MODELS.glob("*"):
        if folder.is_dir() and folder.name not in names:
            shutil.rmtree(folder)


def _classify(candidate: Candidate, seed: int, test: Sequence[Record]) -> Asked:
    """Ask a classifier, which cannot answer the general suite."""
    from stages.core.inference.classifying import ask_classifier
    from stages.core.models.classifier import load_classifier

    candidate.get_base(seed)
    loaded = load_classifier(candidate.config, candidate.get_folder(seed))
    answers = ask_classifier(candidate.name, *loaded, candidate.config, test)
    rounds = time_classifier(*loaded, candidate.config) if seed == candidate.seeds[0] else []
    return Asked({candidate.name: answers}, {"seconds": 0.0}, rounds)


def _generate(candidate: Candidate, seed: int, test: Sequence[Record]) -> Asked:
    """Ask a model that generates.

    The first seed of each candidate also answers the general suite. The first seed of `tuned`
    answers as the extra arms too.
    """
    from stages.core.inference.engine import get_engine
    from stages.core.inference.general import ask_general

    name = candidate.name
    config = candidate.config
    folder = candidate.get_folder(seed)
    tokenizer = get_tokenizer(ModelFiles(str(folder), None, None))
    with get_engine(config, candidate.get_base(seed), tokenizer, folder) as engine:
        found = {
            name: ask(name, engine, tokenizer, config, test, config.prompt.tuned_system_prompt)
        }
        if seed != candidate.seeds[0]:
            return Asked(found, {}, [])
        if name == TUNED_ARM:
            long = read_choices()["zero_shot"]["instruction"]
            for arm in config.evaluate.extra_arms:
                found[arm] = ask(arm, engine, tokenizer, config, test, long)
                write_predictions(f"{EXTRA.name}/{arm}", found[arm])
        rounds = time_engine(engine, tokenizer, config) if name == TUNED_ARM else []
        return Asked(found, ask_general(engine, tokenizer, config), rounds)


def _time_base(config: Config) -> Rounds:
    """Time the base model for the prompted arms, if no tuned model has its layers."""
    from stages.core.inference.engine import get_engine

    base = get_base_model(config.model, config.seed)
    tokenizer = get_tokenizer(base)
    with get_engine(config, base, tokenizer) as engine:
        return time_engine(engine, tokenizer, config)
