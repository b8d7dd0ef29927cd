"""Joined rows on a GPU: the mathematics on a CPU with a stand-in for the kernel, and the kernel where there is one."""

import pytest
import torch
from torch.nn import functional
from transformers import (
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from benchmarks.varlen_stand_in import varlen_attn
from stages.core.errors import UserError
from stages.train.arguments import choose_attention
from stages.train.examples import IGNORED, LeftPadding
from stages.train.trainers import varlen_attention
from stages.train.trainers.packing import get_offsets, joined_rows, mask_of_rows
from stages.train.trainers.varlen_attention import VARLEN, attend, suits_varlen
from tests.train.test_train import trainer_of

SEEN = []


def stand_in(query, *others, **named):
    SEEN.append(query.dtype)
    return varlen_attn(query, *others, **named)


@pytest.fixture
def kernel(monkeypatch):
    """Use the stand-in as the kernel, and this machine's processor as a GPU that has it."""
    SEEN.clear()
    monkeypatch.setattr(varlen_attention, "varlen_attn", stand_in)
    monkeypatch.setattr(varlen_attention, "can_use_varlen", lambda model, dtype: True)


@pytest.fixture
def step(config, prepared, tmp_path):
    """A function: loss, gradients and validation loss of the first rows."""

    def get(attention, *overrides, fuses=False, weights=None):
        overrides = (f"train.attention={attention}", "train=full", *overrides)
        trainer, rows, tokenizer = trainer_of(
            config, prepared, tmp_path, "train.micro_batch_tokens=400", *overrides
        )
        trainer._fuses = fuses
        trainer.accelerator.prepare_model(trainer.model)  # autocast, as in `trainer.train`
        trainer.create_optimizer()
        batch = LeftPadding(tokenizer.pad_token_id)([rows[i] for i in range(8)])
        batch |= {"row": torch.arange(8)}
        if weights:
            batch["weight"] = torch.tensor(weights)[:, None].expand(batch["labels"].shape)
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer.training_step(trainer.model, batch, (batch["labels"] != IGNORED).sum())
        gradients = {name: p.grad for name, p in trainer.model.named_parameters()}
        return loss, gradients, trainer.evaluate()["eval_loss"]

    return get


def assert_equal(found, expected):
    assert torch.allclose(found[0], expected[0], atol=1e-6, rtol=0)
    assert found[2] == pytest.approx(expected[2], abs=1e-6)
    for name, gradient in expected[1].items():
        assert torch.allclose(found[1][name], gradient, atol=1e-6, rtol=1e-4), name


FLOAT32 = "model.dtype=float32"


def test_loss_and_gradients_are_those_of_padded_rows(kernel, step):
    padded = step("sdpa", FLOAT32)
    assert_equal(step(VARLEN, FLOAT32), padded)
    assert SEEN
    assert_equal(step(VARLEN, FLOAT32, fuses=True), padded)


def test_the_fused_head_weights_rows_as_whole_logits_do(kernel, step):
    weights = [0.5, 2.0, 1.0, 1.0, 0.0, 3.0, 1.0, 0.25]
    plain = step("sdpa", FLOAT32, weights=weights)
    assert_equal(step(VARLEN, FLOAT32, fuses=True, weights=weights), plain)
    assert not torch.allclose(plain[0], step("sdpa", FLOAT32)[0], atol=1e-3)


def test_losses_of_trl_take_joined_rows(kernel, step):
    dft = (FLOAT32, "+train.args.loss_type=dft")
    SEEN.clear()
    found = step(VARLEN, *dft)
    assert SEEN
    assert_equal(found, step("sdpa", *dft))


def test_weights_in_float32_meet_the_kernel_in_the_precision_of_autocast(kernel, step):
    loss, _, _ = step(VARLEN, "model.dtype=bfloat16")
    assert set(SEEN) == {torch.bfloat16}
    assert loss == pytest.approx(float(step("sdpa", "model.dtype=bfloat16")[0]), rel=0.02)


SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    "config",
    [LlamaConfig(**SIZES), MistralConfig(**SIZES, sliding_window=5)],
    ids=["whole", "windows"],
)
def test_joined_rows_are_read_as_if_alone_within_windows_too(kernel, config):
    torch.manual_seed(0)
    kind = MistralForCausalLM if config.model_type == "mistral" else LlamaForCausalLM
    model = kind(config).eval()
    rows = [torch.randint(0, 64, (1, length)) for length in (3, 17, 6, 1)]
    with torch.no_grad():
        alone = torch.cat([model(row, use_cache=False).logits for row in rows], 1)
        model.set_attn_implementation(VARLEN)
        lengths = [row.shape[1] for row in rows]
        places = torch.cat([torch.arange(length) for length in lengths])[None]
        offsets = get_offsets(lengths, torch.device("cpu"))
        with joined_rows():
            joined = model(
                torch.cat(rows, 1), position_ids=places, use_cache=False, **offsets
            ).logits
        padded = model(rows[1], use_cache=False).logits
    assert torch.allclose(joined, alone, atol=1e-5)
    assert torch.allclose(padded, alone[:, 3:20], atol=1e-5)


def test_values_may_be_narrower_than_keys(kernel):
    query, key = torch.randn(2, 1, 4, 9, 16)
    value = torch.randn(1, 4, 9, 8)
    offsets = get_offsets([4, 5], torch.device("cpu"))
    found, _ = attend(torch.nn.Module(), query, key, value, None, **offsets)
    parts = zip(*(x.split([4, 5], 2) for x in (query, key, value)), strict=True)
    rows = [functional.scaled_dot_product_attention(*part, is_causal=True) for part in parts]
    assert torch.allclose(found, torch.cat(rows, 2).transpose(1, 2), atol=1e-6)


def test_joined_rows_have_no_mask_and_never_meet_an_attention_without_lengths():
    sizes = {"batch_size": 1, "q_length": 4, "kv_length": 4, "allow_is_causal_skip": False}
    assert mask_of_rows(**sizes).shape == (1, 1, 4, 4)
    tensors = torch.randn(3, 1, 2, 4, 8)
    with joined_rows():
        assert mask_of_rows(**sizes) is None
        with pytest.raises(RuntimeError, match="passes no row lengths"):
            attend(torch.nn.Module(), *tensors, None)


@pytest.mark.parametrize("given", [{"dropout": 0.1}, {"softcap": 30.0}, {"s_aux": torch.ones(2)}])
def test_what_the_kernel_cannot_do_is_not_left_out(kernel, given):
    offsets = get_offsets([4], torch.device("cpu"))
    with pytest.raises(NotImplementedError):
        attend(torch.nn.Module(), *torch.randn(3, 1, 2, 4, 8), None, **offsets, **given)


@pytest.fixture
def card(monkeypatch):
    """Pretend that there is a GPU of Ampere."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)


def test_a_gpu_that_can_has_joined_rows(config, card, monkeypatch):
    model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=5))
    plain = config("train=lora").train
    assert choose_attention(plain, model, 9000, "bfloat16") == VARLEN
    assert choose_attention(plain, model, 9000, "auto") == VARLEN
    assert choose_attention(plain, model, 9000, "float32") == "sdpa"
    assert choose_attention(config("train=dpo").train, model, 9, "bfloat16") == "sdpa"
    compiled = config("train=lora", "train.args.torch_compile=true").train
    assert choose_attention(compiled, model, 9, "bfloat16") == "sdpa"
    exact = config("train=lora", "+train.args.bf16=false").train
    assert choose_attention(exact, model, 9, "bfloat16") == "sdpa"
    asked = config("train.attention=varlen").train
    with pytest.raises(UserError, match=r"train\.attention=varlen is only for .*Ampere"):
        choose_attention(asked, model, 9, "float32")
    model.config.attention_dropout = 0.1
    assert choose_attention(plain, model, 9, "bfloat16") == "sdpa"
    model.config.attention_dropout = 0.0
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    assert choose_attention(plain, model, 9, "bfloat16") == "sdpa"


@pytest.mark.parametrize(("whole", "suits"), [(16, True), (512, False)])
def test_the_largest_head_of_all_layers_must_suit_the_kernel(whole, suits):
    sizes = SIZES | {"head_dim": 16, "global_head_dim": whole, "vocab_size_per_layer_input": 64}
    config = Gemma4TextConfig(**sizes, hidden_size_per_layer_input=8)
    assert suits_varlen(Gemma4ForCausalLM(config)) == suits


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 5])
def test_the_kernel_attends_as_the_stand_in_does(window):
    torch.manual_seed(0)
    device = torch.device("cuda")
    lengths = [3, 40, 1, 17]
    plain = [torch.randn(1, heads, 61, 64, dtype=torch.bfloat16) for heads in (6, 2, 2)]
    tensors = [x.to(device).requires_grad_() for x in plain]
    offsets = get_offsets(lengths, device)
    found, _ = attend(torch.nn.Module(), *tensors, None, sliding_window=window, **offsets)
    sides = (window - 1, 0) if window else (-1, 0)
    exact = [x.float().requires_grad_() for x in plain]
    cut = [x[0].transpose(0, 1) for x in exact]
    ends = offsets["cu_seq_lens_q"].cpu()
    expected = stand_in(
        *cut, ends, ends, 40, 40, scale=64**-0.5, window_size=sides, enable_gqa=True
    )[None]
    weights = torch.randn_like(expected)
    (found * weights.to(device)).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(found.float().cpu(), expected, atol=0.02)
    for one, other in zip(tensors, exact, strict=True):
        cosine = functional.cosine_similarity(
            one.grad.float().cpu().flatten(), other.grad.flatten(), 0
        )
        assert cosine > 0.999
