"""Answers and likelihoods of every architecture, compared with those of transformers."""

import random
from types import SimpleNamespace

import pytest
import torch

from stages.core.errors import UserError
from stages.core.models import generation
from stages.core.models.generation import generate
from stages.core.models.likelihood import get_nats
from tests.architectures import END, MATRIX, VOCABULARY

TOKENIZER = SimpleNamespace(
    chat_template=None,
    eos_token_id=END,
    pad_token_id=END,
    decode=lambda ids, skip_special_tokens: str(ids),
)
STEPS = 6


def draw(*lengths: int, prefix: int = 0) -> list[list[int]]:
    """Draw prompts with a common prefix and rests of these lengths."""
    drawn = random.Random(str((lengths, prefix)))
    tokens = range(END + 1, VOCABULARY)
    shared = drawn.choices(tokens, k=prefix)
    return [shared + drawn.choices(tokens, k=length) for length in lengths]


PROMPTS = {
    "within the window": draw(4, 1, 5, 4),
    "within the window, with a prefix": draw(2, 1, 3, 2, prefix=2),
    "into the window's end": draw(8, 3, 7, 8),
    "beyond the window": draw(30, 17, 30, 22),
    "beyond the window, with a prefix": draw(9, 2, 5, 2, prefix=15),
    "the prefix alone within the window": draw(20, 1, 2, 20, prefix=3),
}


@pytest.fixture(scope="module", params=MATRIX, ids=lambda architecture: architecture.name)
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    return request.param.build()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute the prompts of a batch in several parts, as with long prompts."""
    monkeypatch.setattr(generation, "PREFILL_TOKENS", 8)


@pytest.fixture(autouse=True)
def one_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the tokenizer, which has no chat template, its end token."""
    monkeypatch.setattr(generation, "get_end_ids", lambda tokenizer: {tokenizer.eos_token_id})


def answer(model, prompts, max_new_tokens=STEPS, **others):
    found = generate(
        model,
        TOKENIZER,
        prompts,
        max_new_tokens=max_new_tokens,
        max_batch_tokens=4096,
        title=None,
        **others,
    )
    assert [len(prompt) for prompt in prompts] == [row.prompt_tokens for row in found]
    return [list(row.ids) for row in found]


def answer_alone(model, prompt):
    """transformers' own answer to one prompt."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=STEPS, do_sample=False
    )
    return out[0, len(prompt) :].tolist()


def follow(model, prompt, pick):
    """The answer by reading everything anew for every token, without a cache."""
    said = []
    while len(said) < STEPS:
        logits = model(torch.tensor([prompt + said]), use_cache=False).logits[0, -1]
        token = pick(logits, said)
        if token is None:
            break
        said.append(token)
    return said


def choose_second(logits, rows):
    assert len(logits) == len(rows)
    return logits.topk(2).indices[:, 1]


@pytest.mark.parametrize("kind", PROMPTS)
def test_answers_are_those_of_transformers(model, kind):
    prompts = PROMPTS[kind]
    alone = [answer_alone(model, prompt) for prompt in prompts]
    assert answer(model, prompts) == alone
    assert len({tuple(row) for row in alone}) == len(prompts)


@torch.inference_mode()
def test_rows_end_by_themselves_and_not_in_timings(model, monkeypatch):
    prompts = PROMPTS["beyond the window, with a prefix"] + PROMPTS["within the window"]
    whole = [follow(model, prompt, lambda logits, said: int(logits.argmax())) for prompt in prompts]
    ends = {row[i % STEPS] for i, row in enumerate(whole)}  # rows end at unequal steps
    monkeypatch.setattr(model.generation_config, "eos_token_id", sorted(ends))
    cut = [row[: next(i + 1 for i, token in enumerate(row) if token in ends)] for row in whole]
    assert answer(model, prompts) == cut
    assert len({len(row) for row in cut}) > 1
    assert answer(model, prompts, ignore_eos=True) == whole
    assert model.generation_config.eos_token_id == sorted(ends)


@torch.inference_mode()
def test_answers_are_held_to_those_allowed(model):
    prompts = PROMPTS["the prefix alone within the window"]
    allowed = [[7, 8, 9, END], [7, 8, END], [7, 11, END], [20, END], [21, 22, END]]

    def pick(logits, said):
        nexts = {row[len(said)] for row in allowed if row[: len(said)] == said and row != said}
        return max(nexts, key=lambda token: float(logits[token])) if nexts else None

    expected = [follow(model, prompt, pick) for prompt in prompts]
    assert answer(model, prompts, max_new_tokens=4, allowed=allowed) == expected


@torch.inference_mode()
def test_another_choice_of_tokens_is_followed(model):
    prompts = PROMPTS["into the window's end"]
    expected = [
        follow(model, prompt, lambda logits, said: int(choose_second(logits[None], [0])))
        for prompt in prompts
    ]
    assert answer(model, prompts, choose=choose_second, ignore_eos=True) == expected


def test_the_model_s_own_generation_settings_do_not_change_an_answer(model, monkeypatch):
    prompts = PROMPTS["beyond the window"][:2]
    alone = [answer_alone(model, prompt) for prompt in prompts]
    for name, value in {"do_sample": True, "temperature": 9.0, "repetition_penalty": 9.0}.items():
        monkeypatch.setattr(model.generation_config, name, value)
    assert answer(model, prompts) == alone


@torch.inference_mode()
def test_likelihoods_are_those_of_a_plain_pass(model):
    rows = [(told, row) for prompts in PROMPTS.values() for told, row in enumerate(prompts, 1)]
    texts = [(row[:-told], row[-told:]) for told, row in rows if len(row) > told]
    found = get_nats(model, texts, title="")
    for (given, told), nats in zip(texts, found, strict=True):
        logits = model(torch.tensor([given + told])).logits[0, len(given) - 1 : -1]
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(told), reduction="sum")
        assert nats == pytest.approx(float(losses), rel=1e-4)


@torch.inference_mode()
def test_a_model_with_an_adapter_answers_beyond_its_window():
    from peft import LoraConfig, get_peft_model

    plain = next(one for one in MATRIX if one.name == "Mistral").build()
    adapter = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(plain, adapter).eval()
    prompts = PROMPTS["beyond the window"]
    expected = [
        follow(model, prompt, lambda logits, said: int(logits.argmax())) for prompt in prompts
    ]
    assert answer(model, prompts, ignore_eos=True) == expected
    with model.disable_adapter():
        assert answer(model, prompts, ignore_eos=True) != expected


def test_a_model_without_a_cache_is_refused():
    from transformers import BertConfig, BertLMHeadModel

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    model = BertLMHeadModel(BertConfig(num_hidden_layers=1, vocab_size=VOCABULARY, **sizes))
    with pytest.raises(UserError, match=r"model\.source: BertLMHeadModel keeps no cache"):
        answer(model.eval(), PROMPTS["beyond the window"])
