"""Ask models for `benchmarks.forgetting`, in its clone.

    python -m benchmarks.forgetting_worker base FILE [overrides]
    python -m benchmarks.forgetting_worker tuned FILE [overrides]

`base` writes the value of the best prompted arm, and what the base model knows: as it is, and with the
tuned model's adapter in it, but switched off. `tuned` writes the scores of each row of the test split
and of each item of the general suite, and which prompts of other data sets get a target as their answer.
"""

import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from benchmarks.other_prompts import read_other_prompts
from stages.core.config.schema import Config, parse
from stages.core.data.predictions import prompted_arms, read_arms
from stages.core.data.prompts import encode_prompt
from stages.core.data.records import Record, read_records
from stages.core.entrypoint import tool_main
from stages.core.inference.asking import ask
from stages.core.inference.engine import Engine, TransformersEngine, get_engine
from stages.core.inference.general import ask_general, read_items
from stages.core.metrics.metrics import Metrics
from stages.core.models.base_models import ModelFiles, get_base_model
from stages.core.models.candidates import Candidate, tuned_candidates
from stages.core.models.loading import get_model, get_tokenizer
from stages.core.storage.files import write_json
from stages.evaluate.analysis.evidence import score_arms
from stages.evaluate.analysis.general import passes


@tool_main("forgetting_worker")
def main() -> None:
    """Measure the base model or a tuned model."""
    what, file, *overrides = sys.argv[1:]
    with initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
        config = parse(compose("config", overrides=overrides))
    tuned = tuned_candidates(config)[0]
    metrics = Metrics(
        config.evaluate.metrics, config.evaluate.options, config.evaluate.primary_metric
    )
    records = read_records("test")
    write_json(Path(file), WORK[what](tuned, metrics, records))


def measure_base(tuned: Candidate, metrics: Metrics, records: list[Record]) -> dict[str, Any]:
    """Measure what does not depend on the variant."""
    config = tuned.config
    scores = score_arms(metrics, records, read_arms(config))
    primary = config.evaluate.primary_metric
    prompted = [scores[arm][primary].value for arm in prompted_arms(config) if arm in scores]
    base = get_base_model(config.model, config.seed)
    tokenizer = get_tokenizer(base)
    with get_engine(config, base, tokenizer) as engine:
        before = _ask_suite(engine, tokenizer, config)
    return {"prompt": max(prompted), "before": before, "switched_off": _ask_switched_off(tuned)}


def measure_tuned(tuned: Candidate, metrics: Metrics, records: list[Record]) -> dict[str, Any]:
    """Measure the tuned model."""
    config = tuned.config
    folder = tuned.get_folder()
    tokenizer = get_tokenizer(ModelFiles(str(folder), None, None))
    with get_engine(config, tuned.get_base(), tokenizer, folder) as engine:
        system = config.prompt.tuned_system_prompt
        answers = ask("tuned", engine, tokenizer, config, records, system)
        suite = _ask_suite(engine, tokenizer, config)
        elsewhere = _ask_elsewhere(engine, tokenizer)
    scores = metrics.score_records(answers, records)[config.evaluate.primary_metric]
    seconds = tuned.read_training(config.seed)["numbers"]["seconds"]
    targets = {record.target for record in records}
    return {
        "quality": scores.values.tolist(),
        **suite,
        "targets_elsewhere": [text in targets for text in elsewhere],
        "seconds": seconds,
    }


def _ask_switched_off(tuned: Candidate) -> dict[str, Any]:
    """Ask the base model with the adapter of the first seed in it, but switched off."""
    from peft import PeftModel

    config = tuned.config
    folder = tuned.get_folder()
    base = get_model(tuned.get_base(), config.model.dtype)
    tokenizer = get_tokenizer(ModelFiles(str(folder), None, None))
    model = PeftModel.from_pretrained(base, str(folder))
    with model.disable_adapter():
        engine = TransformersEngine(
            model.get_base_model(), tokenizer, config.model.max_batch_tokens
        )
        return _ask_suite(engine, tokenizer, config)


def _ask_elsewhere(engine: Engine, tokenizer: Any) -> list[str]:
    """Return the beginnings of answers to prompts of other data sets."""
    chats = [[{"role": "user", "content": text}] for text in read_other_prompts()]
    prompts = [encode_prompt(tokenizer, chat) for chat in chats]
    answers = engine.generate(prompts, max_new_tokens=24, title="other data sets")
    return [answer.text.strip() for answer in answers]


def _ask_suite(engine: Any, tokenizer: Any, config: Config) -> dict[str, Any]:
    found = ask_general(engine, tokenizer, config)
    other = found.get("answers_without_system", {})
    items = read_items()
    return {
        "suite": [passes(item, found["answers"][item.id]) for item in items],
        "without_system": [passes(item, other[item.id]) for item in items if item.id in other],
        "nats": sum(found["prose"]["nats"]) / sum(found["prose"]["tokens"]),
    }


WORK = {"base": measure_base, "tuned": measure_tuned}

if __name__ == "__main__":
    main()
