import math

import pytest

from stages.core.general import read_items
from stages.core.models import get_model, get_tokenizer
from stages.evaluate.forgetting import compare_general

CONFIDENCE = 0.95
ITEMS = read_items()


def answers(share, nats):
    """Right answers to the first share of the arithmetic items, nonsense elsewhere; prose of two paragraphs."""
    numbers = [item for item in ITEMS if item.check["kind"] == "number"]
    right = {item.id: str(item.check["value"]) for item in numbers[: round(share * len(numbers))]}
    texts = {item.id: right.get(item.id, "nonsense") for item in ITEMS}
    return {"answers": texts, "prose": {"nats": nats, "tokens": [100, 100]}}


def test_what_was_forgotten_is_counted_by_category():
    found = compare_general(answers(1, [300, 320]), answers(0.5, [400, 420]), CONFIDENCE)
    by_name = {ability.category: ability for ability in found.abilities}
    arithmetic = by_name["arithmetic"]
    assert (arithmetic.base.value, arithmetic.items) == (1, 64) and arithmetic.tuned.value == pytest.approx(
        0.5, abs=0.02
    )
    assert arithmetic.difference.ci_high < 0 and by_name["facts"].difference.value == 0
    assert by_name["all"].items == len(ITEMS) and next(iter(by_name)) == "all"
    assert found.base_perplexity == pytest.approx(math.exp(3.1)) and found.perplexity_ratio.value == pytest.approx(
        math.e
    )
    assert "before (-0." in found.sentence


def test_equal_models_forgot_nothing():
    found = compare_general(answers(1, [300, 320]), answers(1, [300, 320]), CONFIDENCE)
    assert found.perplexity_ratio.value == 1
    assert all(ability.difference.value == 0 for ability in found.abilities)


def test_the_prose_is_read_as_transformers_does(base):
    import torch

    from stages.core.general import FOLDER, read_prose

    model, tokenizer = get_model(base, "float32"), get_tokenizer(base)
    found = read_prose(model, tokenizer)
    first = (FOLDER / "prose.txt").read_text().split("\n\n")[0].strip()
    ids = torch.tensor([tokenizer(first, add_special_tokens=False)["input_ids"]])
    loss = float(model(ids, labels=ids).loss)
    assert found["nats"][0] / found["tokens"][0] == pytest.approx(loss, rel=1e-4)
