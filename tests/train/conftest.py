"""A tiny model that can chat."""

import pytest
import torch

from stages.core.config.schema import parse
from stages.core.models.base_models import get_base_model
from stages.core.models.loading import get_model, get_tokenizer
from stages.train.examples import IGNORED
from tests.conftest import TINY, compose_config

CHAT = "<|im_start|>user\nSay {n} {noun}.<|im_end|>\n<|im_start|>assistant\n{n} {noun}{end}<|im_end|>\n"
NOUNS = ("apples", "pears", "plums", "figs")


@pytest.fixture(scope="module")
def talker(tmp_path_factory, cache):
    """A folder with a tiny model that has learned the form of chats: it asks and answers, and comes to an end."""
    base = get_base_model(parse(compose_config(*TINY)).model, seed=42)
    model = get_model(base, "float32").train()
    tokenizer = get_tokenizer(base)
    texts = [CHAT.format(n=n, noun=NOUNS[n % 4], end="!" * (n % 3)) for n in range(10, 74)]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(120):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("talker")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ("model=hub", "model.dtype=float32", f"model.source.id={folder}")
