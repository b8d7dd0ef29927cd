"""How many tokens a pass may have on a GPU, and what trained weights of half the precision save."""

from dataclasses import replace

import pytest

from stages.core.errors import UserError
from stages.core.planning import estimate
from stages.core.planning.estimate import memory, trained_bytes
from stages.core.planning.gpu_memory import (
    activation_bytes,
    choose_tokens,
    count_fixed_bytes,
    get_method,
    logits_bytes,
)
from tools.memory import MODELS

SMALL = MODELS["Qwen2.5-0.5B"]
LARGE = MODELS["Llama-3.1-8B"]
LEAN = ("train=full", "train.trained_dtype=bfloat16", "+train.args.optim=adamw_bnb_8bit")


def test_a_cpu_has_its_number_and_so_has_what_cannot_be_estimated(config):
    train = config("train=lora").train
    assert choose_tokens(train, SMALL, None, 1) == (768, "on a CPU")
    assert choose_tokens(train, None, 80e9, 1)[0] == 768
    assert choose_tokens(config("train.attention=eager").train, SMALL, 80e9, 1)[0] == 768
    tokens, why = choose_tokens(train, replace(SMALL, mixture=True), 80e9, 1)
    assert tokens == 768 and "mixture of experts" in why


@pytest.mark.parametrize(
    ("overrides", "dimensions", "free", "gpus"),
    [
        (("train=lora",), LARGE, 80e9, 1),
        (("train=lora",), LARGE, 40e9, 1),
        (("train=full",), SMALL, 24e9, 1),
        (("train=full",), LARGE, 80e9, 4),
        (("train=lora", "train.args.gradient_checkpointing=true"), LARGE, 24e9, 1),
        (LEAN, LARGE, 80e9, 1),
    ],
)
def test_what_is_chosen_fits_and_leaves_little(config, overrides, dimensions, free, gpus):
    train = config(*overrides).train
    tokens, why = choose_tokens(train, dimensions, free, gpus)
    assert 768 < tokens <= 65_536 and tokens % 256 == 0
    recomputes = "train.args.gradient_checkpointing=true" in overrides
    taken = activation_bytes(dimensions, get_method(train), tokens, recomputes)
    left = free - count_fixed_bytes(train, dimensions, gpus)
    assert taken < 0.9 * left and (taken > 0.7 * left or tokens == 65_536)
    assert f"{free / 1e9:.0f} GB of GPU memory" in why


def test_a_hidden_gpu_is_none(config, monkeypatch):
    monkeypatch.setattr(estimate.shutil, "which", lambda name: f"/usr/bin/{name}")
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert estimate._unknown(config("train=lora").train, SMALL) is None
    for seen in ("0", "1,2"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
        found = estimate._unknown(config("train=lora").train, SMALL)
        assert found == "training will run on the GPU"


def test_no_more_than_65536_and_no_less_than_on_a_cpu(config):
    train = config("train=full").train
    assert choose_tokens(train, SMALL, 1e12, 1)[0] == 65_536
    assert choose_tokens(train, LARGE, 80e9, 1)[0] == 768  # 128 GB do not fit at all


def test_whole_logits_of_replay_rows_are_counted(config):
    plain, _ = choose_tokens(config("train=lora").train, SMALL, 24e9, 1)
    replay = ("train=lora", "train.replay.fraction=0.1")
    assert choose_tokens(config(*replay, "train.replay.loss=nll").train, SMALL, 24e9, 1)[0] == plain
    train = config(*replay).train
    tokens, _ = choose_tokens(train, SMALL, 24e9, 1)
    kept = activation_bytes(SMALL, "LoRA", 1, checkpointing=False)
    logits = logits_bytes(train, SMALL)
    assert logits >= 4 * 4 * SMALL.vocabulary  # of both models, and their log-probabilities
    assert tokens > 768 and tokens * (kept + logits) < 24e9
    assert 768 < tokens < plain * kept / (kept + logits) + 256


def test_bfloat16_weights_and_an_optimizer_of_8_bits_take_6_bytes_a_weight(config):
    plain = config("train=full").train
    lean = config(*LEAN).train
    assert trained_bytes(plain) == 16 and trained_bytes(lean) == 6
    assert trained_bytes(config(*LEAN[:2]).train) == 8
    assert memory(plain, SMALL, 768, 2) - memory(lean, SMALL, 768, 2) == 10 * SMALL.parameters
    with pytest.raises(UserError, match="trained_dtype: must be float32 with an adapter"):
        config("train=lora", "train.trained_dtype=bfloat16")
