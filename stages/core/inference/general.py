"""The general suite: short items that have nothing to do with the task, to see what a model forgot in training."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from stages.core.config.schema import Config
from stages.core.data.records import Message
from stages.core.storage.files import sha256_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from stages.core.inference.engine import Engine

FOLDER = Path(__file__).parent / "general_suite"
MAX_NEW_TOKENS = 48
EMPTY: Message = {"role": "system", "content": ""}
WITHOUT_SYSTEM = (
    1 / 3
)  # of each category's items are asked without the template's system message too


@dataclass(frozen=True, slots=True)
class Item:
    """One question with a check that a program can do."""

    id: str
    category: str
    prompt: str
    check: dict[str, Any]


def read_items() -> list[Item]:
    """All items, in the order of the file."""
    return [
        Item(**orjson.loads(line)) for line in (FOLDER / "items.jsonl").read_bytes().splitlines()
    ]


def ask_general(
    engine: "Engine", tokenizer: "PreTrainedTokenizerBase", config: Config
) -> dict[str, Any]:
    """What a model knows beside the task.

    Returns:
        `answers` to all items, by id; `answers_without_system` to some of them, below an empty system message, where
        the chat template would put one of its own there; and `prose`, for each paragraph its nats and tokens (all of
        these only with `evaluate.forgetting`); `harness`, as `stages.core.inference.harness.ask_harness` gives it;
        `seconds` of all that.
    """
    started = time.perf_counter()
    found = _ask_suite(engine, tokenizer, config.seed) if config.evaluate.forgetting else {}
    if config.evaluate.harness.tasks:
        from stages.core.inference.harness import ask_harness

        found["harness"] = ask_harness(
            engine.get_model(), tokenizer, config.evaluate.harness, config.seed
        )
    return {**found, "seconds": time.perf_counter() - started}


def _ask_suite(
    engine: "Engine", tokenizer: "PreTrainedTokenizerBase", seed: int
) -> dict[str, dict[str, Any]]:
    items = read_items()
    found = {"answers": _ask_items(engine, tokenizer, items, [], "general suite")}
    if replaces_system(tokenizer):
        title = "general suite, empty system message"
        found["answers_without_system"] = _ask_items(
            engine, tokenizer, draw_items(items, seed), [EMPTY], title
        )
    return {**found, "prose": read_prose(engine.get_model(), tokenizer)}


def _ask_items(
    engine: "Engine",
    tokenizer: "PreTrainedTokenizerBase",
    items: Sequence[Item],
    before: list[Message],
    title: str,
) -> dict[str, str]:
    """The answers by id, each item asked after the messages `before`."""
    from stages.core.data.prompts import encode_prompt

    prompts = [
        encode_prompt(tokenizer, [*before, {"role": "user", "content": item.prompt}])
        for item in items
    ]
    answers = engine.generate(prompts, max_new_tokens=MAX_NEW_TOKENS, title=title)
    return {item.id: answer.text for item, answer in zip(items, answers, strict=True)}


def draw_items(items: Sequence[Item], seed: int) -> list[Item]:
    """The same share of each category, drawn by the seed, in the order given."""
    drawn: set[str] = set()
    for category in dict.fromkeys(item.category for item in items):
        ids = [item.id for item in items if item.category == category]
        drawn.update(
            sorted(ids, key=lambda name: sha256_json([seed, name]))[
                : round(WITHOUT_SYSTEM * len(ids))
            ]
        )
    return [item for item in items if item.id in drawn]


def replaces_system(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the chat template puts a system message of its own above a chat that has none, and an empty one is less.

    Templates that refuse a system message, or add their own text to every one, are not asked without it.
    """
    from stages.core.data.prompts import TemplateError, split_user_turn

    try:
        return len(split_user_turn(tokenizer, [EMPTY])[0]) < len(split_user_turn(tokenizer)[0])
    except TemplateError:
        return False


def read_prose(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase"
) -> dict[str, list[float]]:
    """Negative log-likelihood (nats) and tokens of each paragraph of the prose, the first token left out."""
    from stages.core.models.likelihood import get_nats

    paragraphs = [text.strip() for text in (FOLDER / "prose.txt").read_text().split("\n\n")]
    ids = tokenizer(paragraphs, add_special_tokens=False)["input_ids"]
    nats = get_nats(model, [(row[:1], row[1:]) for row in ids], title="general prose")
    return {"nats": nats, "tokens": [len(row) - 1 for row in ids]}
