"""The general suite: short items that have nothing to do with the task, to see what a model forgot in training."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from stages.core.config import Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from stages.core.engine import Engine

FOLDER = Path(__file__).parent / "general_suite"
MAX_NEW_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Item:
    """One question with a check that a program can do."""

    id: str
    category: str
    prompt: str
    check: dict[str, Any]


def read_items() -> list[Item]:
    """All items, in the order of the file."""
    return [Item(**orjson.loads(line)) for line in (FOLDER / "items.jsonl").read_bytes().splitlines()]


def ask_general(engine: "Engine", tokenizer: "PreTrainedTokenizerBase", config: Config) -> dict[str, Any]:
    """What a model knows beside the task.

    Returns:
        `answers` to all items, by id, and `prose`, for each paragraph its nats and tokens (both only with
        `evaluate.forgetting`); `harness`, as `stages.core.harness.ask_harness` gives it; `seconds` of all that.
    """
    started = time.perf_counter()
    found = _ask_suite(engine, tokenizer) if config.evaluate.forgetting else {}
    if config.evaluate.harness.tasks:
        from stages.core.harness import ask_harness

        found["harness"] = ask_harness(engine.get_model(), tokenizer, config.evaluate.harness, config.seed)
    return {**found, "seconds": time.perf_counter() - started}


def _ask_suite(engine: "Engine", tokenizer: "PreTrainedTokenizerBase") -> dict[str, dict[str, Any]]:
    from stages.core.prompts import encode_prompt

    items = read_items()
    prompts = [encode_prompt(tokenizer, [{"role": "user", "content": item.prompt}]) for item in items]
    answers = engine.generate(prompts, max_new_tokens=MAX_NEW_TOKENS, title="general suite")
    texts = {item.id: answer.text for item, answer in zip(items, answers, strict=True)}
    return {"answers": texts, "prose": read_prose(engine.get_model(), tokenizer)}


def read_prose(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> dict[str, list[float]]:
    """Negative log-likelihood (nats) and tokens of each paragraph of the prose, the first token left out."""
    from stages.core.likelihood import get_nats

    paragraphs = [text.strip() for text in (FOLDER / "prose.txt").read_text().split("\n\n")]
    ids = tokenizer(paragraphs, add_special_tokens=False)["input_ids"]
    nats = get_nats(model, [(row[:1], row[1:]) for row in ids], title="general prose")
    return {"nats": nats, "tokens": [len(row) - 1 for row in ids]}
