"""Ask a model the general suite, which shows what it forgot in training.

The items of the suite are short and have nothing to do with the task.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from stages.core.config.schema import Config
from stages.core.data.prompts import EMPTY, encode_prompt, replaces_system
from stages.core.data.records import Message
from stages.core.storage.files import sha256_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from stages.core.inference.engine import Engine

FOLDER = Path(__file__).parent / "general_suite"
MAX_NEW_TOKENS = 48
# The share of each category that is also asked without the chat template's own system message.
WITHOUT_SYSTEM = 1 / 3


@dataclass(frozen=True, slots=True)
class Item:
    """One question with a check that a program can carry out."""

    id: str
    category: str
    prompt: str
    check: dict[str, Any]


def read_items() -> list[Item]:
    """Read all items of the suite, in file order."""
    return [
        Item(**orjson.loads(line)) for line in (FOLDER / "items.jsonl").read_bytes().splitlines()
    ]


def ask_general(
    engine: "Engine", tokenizer: "PreTrainedTokenizerBase", config: Config
) -> dict[str, Any]:
    """Ask a model what it knows apart from the task.

    Returns:
        A dict with these keys. The first three are present only with `evaluate.forgetting`.

        - `answers`: the answers to all items, by id.
        - `answers_without_system`: the answers to some of the items after an empty system message.
          The key is present only if the chat template would add a system message of its own.
        - `prose`: the nats and the token count of each paragraph.
        - `harness`: the result of `stages.core.inference.harness.ask_harness`, present only if
          `evaluate.lm_eval.tasks` names tasks.
        - `seconds`: the wall time of all of this.
    """
    started = time.perf_counter()
    found = _ask_suite(engine, tokenizer, config.seed) if config.evaluate.forgetting else {}
    if config.evaluate.lm_eval.tasks:
        from stages.core.inference.harness import ask_harness

        found["harness"] = ask_harness(
            engine.get_model(), tokenizer, config.evaluate.lm_eval, config.seed
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
    """Ask each item after the messages `before` and return the answers by id."""
    from stages.core.data.thoughts import read_answer

    prompts = [
        encode_prompt(tokenizer, [*before, {"role": "user", "content": item.prompt}])
        for item in items
    ]
    answers = engine.generate(prompts, max_new_tokens=MAX_NEW_TOKENS, title=title)
    rows = zip(items, prompts, answers, strict=True)
    return {item.id: read_answer(tokenizer, prompt, a.text) for item, prompt, a in rows}


def draw_items(items: Sequence[Item], seed: int) -> list[Item]:
    """Draw the same share of each category by the seed, keeping the given order."""
    drawn: set[str] = set()
    for category in dict.fromkeys(item.category for item in items):
        ids = [item.id for item in items if item.category == category]
        drawn.update(
            sorted(ids, key=lambda name: sha256_json([seed, name]))[
                : round(WITHOUT_SYSTEM * len(ids))
            ]
        )
    return [item for item in items if item.id in drawn]


def read_prose(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase"
) -> dict[str, list[float]]:
    """Measure the negative log-likelihood of each prose paragraph.

    Returns:
        `nats` and `tokens`, one number for each paragraph. Both leave out the first token, which
        is the begin token if the tokenizer begins texts with one.
    """
    from stages.core.data.prompts import get_text_start
    from stages.core.models.likelihood import get_nats

    paragraphs = [text.strip() for text in (FOLDER / "prose.txt").read_text().split("\n\n")]
    start = get_text_start(tokenizer)
    ids = [start + row for row in tokenizer(paragraphs, add_special_tokens=False)["input_ids"]]
    nats = get_nats(model, [(row[:1], row[1:]) for row in ids], title="general prose")
    return {"nats": nats, "tokens": [len(row) - 1 for row in ids]}
