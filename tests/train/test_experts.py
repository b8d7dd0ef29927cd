"""Adapters of a mixture of experts, whose weights are parameters and not linear layers."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from stages.core.models.loading import TUNED, get_model
from stages.train.__main__ import main
from stages.train.adapter import find_experts
from tests.conftest import TINY, compose_config
from tests.train.test_every_option import FAST

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 258,
    "head_dim": 8,
}
MIXTURES = {
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
}


@pytest.fixture
def mixture(request, base, tmp_path_factory):
    """The folder of a tiny random model of a kind, with the tokenizer of the tiny model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("mixture") / "model"
    shutil.copytree(base.path, folder)
    config = AutoConfig.for_model(request.param, **SIZES, **MIXTURES[request.param])
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def train(folder, *more):
    source = ("model=hub", f"model.source.id={folder}", "model.dtype=float32")
    adapter = "++train.adapter={r: 2, lora_alpha: 4}"
    main(compose_config(*TINY, *FAST, *source, adapter, "train.args.max_steps=2", *more))
    return json.loads((TUNED / "training.json").read_text())["loss_after_reloading"]


@pytest.mark.parametrize("mixture", MIXTURES, indirect=True)
def test_all_linear_trains_the_experts_and_they_come_back(prepared, mixture, capsys):
    found = train(mixture)
    names = list(load_file(TUNED / "adapter_model.safetensors"))
    assert any("experts" in name for name in names) and any("q_proj" in name for name in names)
    assert found["merged"] == pytest.approx(found["trained"], rel=1e-4)
    assert "all-linear includes the experts, 25% of the weights" in capsys.readouterr().err


@pytest.mark.parametrize("mixture", ["qwen3_moe", "gpt_oss"], indirect=True)
def test_experts_that_cannot_be_trained_are_not_left_out_silently(prepared, mixture):
    with pytest.raises(
        SystemExit, match=r"experts, 25% of .* no adapters .* lora_dropout\. Remove"
    ):
        train(mixture, "train.adapter.lora_dropout=0.1")
    assert not TUNED.exists()


def test_a_model_without_experts_has_none(base):
    assert find_experts(get_model(base, "float32")) == {}
