"""Rows without padding: the same loss, gradients and answers as with it."""

import pytest
import torch
from torch.nn import functional

from stages.core.models.generation import generate
from stages.core.models.loading import get_model, get_tokenizer
from stages.train.examples import IGNORED, LeftPadding
from stages.train.trainers import row_attention
from stages.train.trainers.packing import join, pack
from stages.train.trainers.row_attention import PER_ROW
from stages.train.trainers.varlen_attention import VARLEN
from tests.train.test_train import trainer_of


@pytest.fixture(autouse=True)
def empty_caches():
    """Forget the arrangements, because tests change the limit by which they were made."""
    yield
    row_attention._arrange.cache_clear()
    row_attention._later_tokens.cache_clear()


@pytest.fixture
def gradients_of(config, prepared, tmp_path):
    """A function: loss and gradients of the first rows with an attention."""

    def get(attention):
        overrides = (f"train.attention={attention}", "train=full", "train.micro_batch_tokens=400")
        trainer, rows, tokenizer = trainer_of(config, prepared, tmp_path, *overrides)
        trainer.create_optimizer()
        batch = LeftPadding(tokenizer.pad_token_id)([rows[i] for i in range(8)]) | {
            "row": torch.arange(8)
        }
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer.training_step(trainer.model, batch, (batch["labels"] != IGNORED).sum())
        return (
            loss,
            {name: p.grad for name, p in trainer.model.named_parameters()},
            trainer.evaluate()["eval_loss"],
        )

    return get


@pytest.mark.parametrize("plain_tokens", [512, 0], ids=["plain products", "fused kernel"])
def test_loss_and_gradients_are_those_of_padded_rows(gradients_of, monkeypatch, plain_tokens):
    monkeypatch.setattr(row_attention, "PLAIN_TOKENS", plain_tokens)
    (loss, gradients, validation), (padded_loss, padded, padded_validation) = map(
        gradients_of, (PER_ROW, "sdpa")
    )
    assert torch.allclose(loss, padded_loss, rtol=1e-5) and validation == pytest.approx(
        padded_validation, rel=1e-5
    )
    assert all(
        torch.allclose(gradients[name], padded[name], atol=1e-6, rtol=1e-3) for name in padded
    )


def reference(query, key, value, lengths):
    """Attention row by row, with PyTorch's own function."""
    rows = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    found = [
        functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        for q, k, v in rows
    ]
    return torch.cat(found, dim=2).transpose(1, 2)


@pytest.mark.parametrize("plain_tokens", [512, 6, 0])
@pytest.mark.parametrize("lengths", [[1], [7, 7], [3, 12, 1, 5, 6, 2], [40, 3]])
def test_rows_of_any_lengths_in_any_order_are_attended_as_if_alone(
    monkeypatch, plain_tokens, lengths
):
    monkeypatch.setattr(row_attention, "PLAIN_TOKENS", plain_tokens)
    torch.manual_seed(0)
    tensors = [torch.randn(1, heads, sum(lengths), 8, requires_grad=True) for heads in (6, 2, 2)]
    module = torch.nn.Module()
    expected = reference(*tensors, lengths)
    found, _ = row_attention.attend(module, *tensors, None, row_lengths=lengths)
    assert torch.allclose(found, expected, atol=1e-6)
    weights = torch.randn_like(found)
    for gradient, wanted in zip(
        torch.autograd.grad((found * weights).sum(), tensors),
        torch.autograd.grad((expected * weights).sum(), tensors),
        strict=True,
    ):
        assert torch.allclose(gradient, wanted, atol=1e-5)


def test_padding_at_most_doubles_a_row_and_long_rows_get_none():
    lengths = [600, 300, 290, 513, 100, 60, 50, 10, 600]
    groups, places, tokens = row_attention._arrange(tuple(lengths), torch.device("cpu"))
    assert groups == [(1, 600), (1, 600), (1, 513), (2, 300), (3, 100), (1, 10)]
    assert len(places) == sum(rows * length for rows, length in groups) <= 2 * sum(lengths)
    assert torch.equal(places[tokens], torch.arange(sum(lengths)))


def test_a_row_does_not_see_the_one_before(config, prepared, tmp_path):
    trainer, rows, tokenizer = trainer_of(config, prepared, tmp_path)
    assert trainer._packs
    collate = LeftPadding(tokenizer.pad_token_id)
    model = trainer.model.eval()
    alone = collate([rows[1]])
    after = collate([rows[0], rows[1]])
    with torch.no_grad():
        found = [
            model(**{**join(batch), "labels": None}, use_cache=False).logits[0]
            for batch in (alone, after)
        ]
    assert torch.allclose(found[0], found[1][-len(found[0]) :], atol=1e-5)


def test_what_is_joined_has_no_padding_and_no_target_across_rows():
    ids = torch.tensor([[0, 0, 5, 6], [1, 2, 3, 4]])
    seen = (ids > 0).long()
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    joined = join(
        {"input_ids": ids, "attention_mask": seen, "position_ids": positions, "labels": ids}
    )
    assert joined["input_ids"].tolist() == [[5, 6, 1, 2, 3, 4]] and joined["row_lengths"] == [2, 4]
    assert joined["position_ids"].tolist() == [[0, 1, 0, 1, 2, 3]]
    assert joined["labels"].tolist() == [[IGNORED, 6, IGNORED, 2, 3, 4]]


@pytest.mark.parametrize(
    ("lengths", "limit", "parts"),
    [
        ([5, 5, 5, 5], 10, [[0, 2], [1, 3]]),
        ([30, 1, 1, 1], 10, [[0], [1, 2, 3]]),
        ([9, 9, 2], 10, [[0], [1], [2]]),
        ([3], 10, [[0]]),
    ],
)
def test_rows_are_divided_into_few_parts_within_the_limit(lengths, limit, parts):
    assert pack(lengths, limit) == parts


def test_answers_are_generated_as_with_attention_of_pytorch(base):
    tokenizer = get_tokenizer(base)
    prompts = [
        tokenizer.encode("Who is Ann?"),
        tokenizer.encode("What did Acme Inc. sign with the Bank?"),
    ]
    texts = []
    for attention in (PER_ROW, VARLEN, "sdpa"):
        model = get_model(base, "float32")
        model.set_attn_implementation(attention)
        answers = generate(
            model.eval(), tokenizer, prompts, max_new_tokens=8, max_batch_tokens=256, title="test"
        )
        texts.append([answer.text for answer in answers])
    assert texts[0] == texts[1] == texts[2]
