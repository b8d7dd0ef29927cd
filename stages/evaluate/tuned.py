"""The tuned model's answers to the test split, and what it still knows beside the task."""

from collections.abc import Sequence
from typing import Any

from stages.core.base_models import BaseModel, get_base_model
from stages.core.config import Config
from stages.core.errors import UserError
from stages.core.files import read_json, write_json
from stages.core.models import TUNED, get_tokenizer
from stages.core.predictions import EXTRA, GENERAL_TUNED, PREDICTIONS, TUNED_ARM, Prediction, ask, write_predictions
from stages.core.records import Record
from stages.core.train_config import ANSWERING, CLASSIFYING
from stages.evaluate.timings import BASE, time_classifier, time_engine, write_timings

Answers = dict[str, list[Prediction]]


def check_method(config: Config) -> None:
    """Raise a `UserError` where training makes no model that can be an arm."""
    if config.train.method not in (*ANSWERING, *CLASSIFYING):
        raise UserError(
            f"train={config.train.method} makes a judge, which answers no prompts: run `dvc repro train`; its accuracy "
            "on validation pairs is in metrics/train.json"
        )


def ask_tuned(config: Config, test: Sequence[Record]) -> tuple[Answers, dict[str, Any]]:
    """Ask the tuned model, and write down what it answers.

    Returns:
        The answers of each of its arms, and those to the general suite as `stages.core.general.ask_general` has them.
    """
    write_json(EXTRA / "arms.json", config.evaluate.extra_arms)
    found, general = _classify(config, test) if config.train.method in CLASSIFYING else _generate(config, test)
    write_json(GENERAL_TUNED, general)
    return found, general


def _classify(config: Config, test: Sequence[Record]) -> tuple[Answers, dict[str, Any]]:
    """A classifier has no general abilities to be asked for."""
    from stages.core.classifier import ask_classifier, load_classifier
    from stages.core.engine import get_engine

    model, tokenizer = load_classifier(config)
    answers = ask_classifier(TUNED_ARM, model, tokenizer, config, test)
    write_predictions(TUNED_ARM, answers)
    rounds = time_classifier(model, tokenizer, config)
    del model  # the base model may need its memory
    base = get_base_model(config.model, config.seed)
    with get_engine(config, base, tokenizer := get_tokenizer(base)) as engine:
        write_timings({BASE: time_engine(engine, tokenizer, config), TUNED_ARM: rounds})
    return {TUNED_ARM: answers}, {"seconds": 0.0}


def _generate(config: Config, test: Sequence[Record]) -> tuple[Answers, dict[str, Any]]:
    from stages.core.engine import get_engine
    from stages.core.general import ask_general

    tokenizer = get_tokenizer(BaseModel(str(TUNED), None, None))
    long = read_json(PREDICTIONS / "choices.json")["zero_shot"]["instruction"]
    with get_engine(config, get_base_model(config.model, config.seed), tokenizer, TUNED) as engine:
        found = {TUNED_ARM: ask(TUNED_ARM, engine, tokenizer, config, test, config.prompt.short_instruction)}
        write_predictions(TUNED_ARM, found[TUNED_ARM])
        for arm in config.evaluate.extra_arms:
            found[arm] = ask(arm, engine, tokenizer, config, test, long)
            write_predictions(f"{EXTRA.name}/{arm}", found[arm])
        write_timings({BASE: time_engine(engine, tokenizer, config)})  # base and tuned model have the same layers
        return found, ask_general(engine, tokenizer, config)
