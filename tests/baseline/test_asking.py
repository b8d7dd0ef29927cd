"""What is asked again where only some answers are allowed."""

import pytest

from stages.baseline.asking import BaseAsker
from stages.baseline.candidates import Candidate
from stages.baseline.retrieval import BM25Index
from stages.core.inference.engine import TransformersEngine
from stages.core.models import generation
from stages.core.models.loading import get_model, get_tokenizer
from tests.conftest import chat

ZERO_SHOT = Candidate("Answer.", "none", 0, 42, "given", balanced=False)


class Counting(TransformersEngine):
    """Remembers how many prompts it was asked."""

    asked = 0

    def generate(self, prompts, **others):
        self.asked += len(prompts)
        return super().generate(prompts, **others)


@pytest.fixture
def ask(base, config, monkeypatch):
    """A maker of askers of one engine, whose model ends each answer after one token."""
    tokenizer = get_tokenizer(base)
    model = get_model(base, "float32")
    for name, parameter in model.named_parameters():
        parameter.data *= 30 if "attn" in name else 1  # so that what it says hangs on the question
    engine = Counting(model, tokenizer, 4096)
    monkeypatch.setattr(generation, "end_tokens", lambda *_: set(range(len(tokenizer))))
    train = [chat(f"Say {n}.", f"number {n}") for n in range(4)]

    def make(**limits):
        return BaseAsker(config(), engine, tokenizer, train, BM25Index(train), **limits)

    make.engine = engine
    make.tokenizer = tokenizer
    return make


def test_an_answer_that_was_allowed_is_not_asked_for_again(ask):
    records = [chat(f"Say {'very ' * n}{n}.", f"number {n}") for n in range(12)]
    free = ask()
    answers = free("zero_shot", ZERO_SHOT, records)
    said = sorted({answer.token_ids for answer in answers})
    assert len(said) > 1
    allowed = [list(ids) for ids in said[: len(said) // 2]]
    ask.engine.asked = 0
    known = ask(allowed=allowed, free=free)("constrained", ZERO_SHOT, records)
    asked_again = ask.engine.asked
    anew = ask(allowed=allowed)("constrained", ZERO_SHOT, records)
    assert [answer.token_ids for answer in known] == [answer.token_ids for answer in anew]
    assert (
        asked_again
        == sum(list(answer.token_ids) not in allowed for answer in answers)
        < len(records)
    )
    assert {answer.arm for answer in known} == {"constrained"} and [a.id for a in known] == [
        r.id for r in records
    ]
    assert len({answer.shared_prompt_tokens for answer in known}) == 1


def test_another_way_to_ask_is_asked(ask):
    records = [chat("Say it.", "it")]
    free = ask()
    [answer] = free("zero_shot", ZERO_SHOT, records)
    allowed = [list(answer.token_ids)]
    other = Candidate("Say no more.", "none", 0, 42, "given", balanced=False)
    ask.engine.asked = 0
    ask(allowed=allowed, free=free)("constrained", other, records)
    assert ask.engine.asked == 1
