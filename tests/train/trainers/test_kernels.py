"""Kernels that are asked for are used or refused, and never silently ignored."""

import pytest
import torch
import transformers.utils
from safetensors.torch import load_file

from stages.core.errors import UserError
from stages.core.models.loading import TUNED
from stages.train.__main__ import main
from stages.train.trainers.kept_weights import kept_weights
from stages.train.trainers.kernels import take_kernels, use_hub_kernels
from tests.conftest import TINY, compose_config
from tests.train.test_every_option import FAST, GRPO, RECORDS, prepare
from tests.train.test_train import trainer_of

HUB = {"model_init_kwargs": {"use_kernels": True}}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+train.args.use_liger_kernel=true", "use_liger_kernel: needs the package liger-kernel"),
        (
            "+train.args.model_init_kwargs={use_kernels: true}",
            "use_kernels: needs the package kernels",
        ),
        (
            "+train.args.model_init_kwargs={dtype: float16}",
            "model_init_kwargs.dtype: Tuneproof loads",
        ),
    ],
)
def test_a_missing_library_is_a_message(config, prepared, tmp_path, monkeypatch, override, said):
    for library in ("kernels", "liger_kernel"):
        monkeypatch.setattr(transformers.utils, f"is_{library}_available", lambda: False)
    with pytest.raises(UserError, match=said):
        trainer_of(config, prepared, tmp_path, override)


def test_kernels_need_a_gpu_and_are_taken_out_of_the_arguments(monkeypatch):
    monkeypatch.setattr(transformers.utils, "is_kernels_available", lambda: True)
    with pytest.raises(UserError, match="these kernels need a GPU"):
        take_kernels(HUB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert take_kernels(HUB | {"max_steps": 3}) == ({"max_steps": 3}, True)
    assert take_kernels({"max_steps": 3}) == ({"max_steps": 3}, False)


def test_what_the_library_says_reaches_the_user(monkeypatch):
    class Model(torch.nn.Linear):
        def set_use_kernels(self, wanted):
            raise ValueError("the hub is far")

    with pytest.raises(UserError, match="use_kernels: the hub is far"):
        use_hub_kernels(Model(1, 1))


def test_generation_in_bfloat16_changes_neither_weights_nor_buffers():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3))
    model.register_buffer("frequencies", torch.rand(3))
    model[0].weight.data += 1e-5
    before = model[0].weight.data.clone()
    frequencies = model.frequencies.clone()
    model.eval()
    with kept_weights(model):
        model.to(torch.bfloat16)
        model.train()
        assert model[0].weight.dtype == torch.bfloat16
        assert torch.equal(model.frequencies, frequencies)
    assert not model.training
    assert torch.equal(model[0].weight.data, before) and model[0].weight.dtype == torch.float32
    assert model.to(torch.float64)[0].weight.dtype == torch.float64  # its own method is back


@pytest.mark.gpu
def test_grpo_answers_by_continuous_batching_and_keeps_its_weights(workspace):
    prepare(RECORDS["chat"])
    asked = "+train.args.use_transformers_continuous_batching=true"
    main(compose_config(*TINY, *FAST, "train=grpo", *GRPO, "model.dtype=bfloat16", asked))
    weights = load_file(next(TUNED.glob("*.safetensors")))
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
