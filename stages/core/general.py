"""The general suite: short items that have nothing to do with the task, to see what a model forgot in training."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from stages.core.config import Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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


def ask_general(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: Config
) -> dict[str, dict[str, Any]]:
    """A model's answers to all items, by id, and for each paragraph of the prose its nats and tokens."""
    from stages.core.generation import generate
    from stages.core.prompts import encode_prompt

    items = read_items()
    prompts = [encode_prompt(tokenizer, [{"role": "user", "content": item.prompt}]) for item in items]
    answers = generate(
        model,
        tokenizer,
        prompts,
        max_new_tokens=MAX_NEW_TOKENS,
        batch_tokens=config.model.batch_tokens,
        title="general suite",
    )
    texts = {item.id: answer.text for item, answer in zip(items, answers, strict=True)}
    return {"answers": texts, "prose": read_prose(model, tokenizer)}


def read_prose(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> dict[str, list[float]]:
    """Negative log-likelihood (nats) and tokens of each paragraph of the prose, the first token left out."""
    import torch
    from torch.nn.functional import cross_entropy

    nats: list[float] = []
    tokens: list[float] = []
    with torch.inference_mode():
        for paragraph in (FOLDER / "prose.txt").read_text().split("\n\n"):
            ids = torch.tensor([tokenizer(paragraph.strip(), add_special_tokens=False)["input_ids"]]).to(model.device)
            logits = model(ids, use_cache=False).logits[0, :-1].float()
            nats.append(float(cross_entropy(logits, ids[0, 1:], reduction="sum")))
            tokens.append(ids.shape[1] - 1)
    return {"nats": nats, "tokens": tokens}
