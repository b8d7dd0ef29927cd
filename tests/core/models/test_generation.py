import pytest
import torch

from stages.core.data.prompts import build_prompt, encode_prompt
from stages.core.models.generation import batches, common_prefix, generate
from stages.core.models.loading import get_model, get_tokenizer
from tests.conftest import chat


@pytest.fixture
def tiny(base):
    return get_model(base, "float32"), get_tokenizer(base)


def plain_ids(model, prompt, max_new_tokens):
    """transformers' own generation, one prompt at a time."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False
    )
    return out[0, len(prompt) :].tolist()


def plain(model, tokenizer, prompt, max_new_tokens):
    return tokenizer.decode(plain_ids(model, prompt, max_new_tokens), skip_special_tokens=True)


@pytest.mark.parametrize("max_batch_tokens", [64, 400, 100_000])
@pytest.mark.parametrize("system", [None, "The same words before every question."])
def test_answers_are_those_of_plain_generation(tiny, max_batch_tokens, system):
    model, tokenizer = tiny
    records = [chat(f"{'word ' * (n * 3 % 7)}{n}", "x", system) for n in range(9)]
    prompts = [encode_prompt(tokenizer, build_prompt(record, None)) for record in records]
    answers = generate(
        model,
        tokenizer,
        prompts,
        max_new_tokens=12,
        max_batch_tokens=max_batch_tokens,
        title="test",
    )
    assert [answer.text for answer in answers] == [
        plain(model, tokenizer, prompt, 12) for prompt in prompts
    ]
    assert [answer.prompt_tokens for answer in answers] == [len(prompt) for prompt in prompts]


def test_a_row_stops_at_its_end_token_while_others_go_on(tiny):
    model, tokenizer = tiny
    prompts = [
        encode_prompt(tokenizer, build_prompt(chat(f"{'word ' * n}{n}", "x"), None))
        for n in range(8)
    ]
    free = [plain_ids(model, prompt, 10) for prompt in prompts]
    end = next(
        t for t in free[0][1:] if any(t not in row for row in free)
    )  # some rows say it and some do not
    model.generation_config.eos_token_id = [end]
    answers = generate(
        model, tokenizer, prompts, max_new_tokens=10, max_batch_tokens=10_000, title="test"
    )
    for row, answer in zip(free, answers, strict=True):
        kept = row[: row.index(end) + 1] if end in row else row
        assert answer.completion_tokens == len(kept) and answer.cut == (end not in row)
        assert answer.text == tokenizer.decode(kept, skip_special_tokens=True)


def test_for_timings_no_end_token_ends_an_answer(tiny):
    model, tokenizer = tiny
    prompts = [
        encode_prompt(tokenizer, build_prompt(chat(f"{'word ' * n}{n}", "x"), None))
        for n in range(4)
    ]
    model.generation_config.eos_token_id = [plain_ids(model, prompt, 3)[1] for prompt in prompts]
    limits = {"max_new_tokens": 6, "max_batch_tokens": 10_000, "title": None}
    assert any(
        answer.completion_tokens < 6 for answer in generate(model, tokenizer, prompts, **limits)
    )
    found = generate(model, tokenizer, prompts, **limits, ignore_eos=True)
    assert [answer.completion_tokens for answer in found] == [6] * 4


@pytest.mark.parametrize("max_batch_tokens", [100, 100_000])
def test_an_answer_is_held_to_the_likeliest_of_the_allowed_tokens(tiny, max_batch_tokens):
    model, tokenizer = tiny
    end = tokenizer.eos_token_id
    allowed = [[*tokenizer(text)["input_ids"], end] for text in ("cat", "car", "ca", "dog")]
    prompts = [
        encode_prompt(tokenizer, build_prompt(chat(f"{'word ' * n}{n}", "x"), None))
        for n in range(8)
    ]
    limits = {"max_new_tokens": 4, "max_batch_tokens": max_batch_tokens}
    answers = generate(model, tokenizer, prompts, **limits, title="test", allowed=allowed)

    def follow(prompt):
        said = []
        while not said or said[-1] != end:
            nexts = {answer[len(said)] for answer in allowed if answer[: len(said)] == said}
            logits = model(torch.tensor([prompt + said])).logits[0, -1]
            said.append(max(nexts, key=lambda token: float(logits[token])))
        return tokenizer.decode(said, skip_special_tokens=True)

    assert [answer.text for answer in answers] == [follow(prompt) for prompt in prompts]
    assert not any(answer.cut for answer in answers)


def test_a_common_prefix_leaves_each_prompt_a_token():
    assert common_prefix([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert common_prefix([[1, 2], [1, 2, 3]]) == 1
    assert common_prefix([[5], [6]]) == 0
    assert common_prefix([[1, 2, 3]]) == 0


def test_batches_hold_every_row_once_within_the_budget():
    lengths = [3, 50, 7, 8, 120, 9, 9, 2]
    found = list(batches(lengths, 60))
    assert sorted(i for batch in found for i in batch) == list(range(8))
    assert all(
        len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= 60 for batch in found
    )
