"""Arguments that libraries accept have an effect, or are refused with a reason."""

import re
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from stages.core.errors import UserError
from stages.core.models import loading
from stages.train.__main__ import main
from stages.train.arguments import get_arguments
from stages.train.libraries import explain_missing_library
from stages.train.methods import get_method
from tests.conftest import TINY, compose_config
from tests.train.methods.test_grpo import trainer_of as grpo_trainer
from tests.train.test_every_option import FAST
from tests.train.test_train import trainer_of

SEQUENTIAL = "train.args.train_sampling_strategy=sequential"


def test_sequential_rows_come_in_the_order_of_the_file(config, prepared, tmp_path):
    trainer, rows, _ = trainer_of(config, prepared, tmp_path, SEQUENTIAL)
    for epoch in (0, 1):
        sampler = trainer._get_train_sampler()
        sampler.epoch = epoch
        assert list(sampler) == list(range(len(rows)))
    trainer, *_ = trainer_of(config, prepared, tmp_path)
    assert list(trainer._get_train_sampler()) != list(range(len(rows)))


def test_sequential_prompts_come_in_the_order_of_the_file(config, tmp_path):
    trainer = grpo_trainer(config, tmp_path, SEQUENTIAL)
    assert list(dict.fromkeys(trainer._get_train_sampler())) == list(range(24))
    with pytest.raises(UserError, match="method grpo supports random, sequential"):
        grpo_trainer(config, tmp_path, "train.args.train_sampling_strategy=group_by_length")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "train.args.train_sampling_strategy=batch_rebalance",
            "supports random, sequential, group",
        ),
        (
            "+train.args.model_init_kwargs={use_kernels: true}",
            "use_kernels: needs the package kernels: `pip install kernels`",
        ),
        ("train.attention=nonsense", "train.attention=nonsense: Specified"),
        (
            "+train.args.use_liger_kernel=true",
            "needs the package liger-kernel: `pip install -c constraints.txt --group liger`",
        ),
        (
            "+train.args.optim=schedule_free_adamw",
            "schedule_free_adamw needs a library that is not installed .*schedulefree",
        ),
        (
            "+train.args.optim=grokadamw",
            "optim=grokadamw or .* cannot be used: Please install grokadamw",
        ),
        ("train.attention=flash_attention_2", "not installed: .*pip install flash-attn"),
        ("train.attention=kernels-community/flash-attn", "not installed: .*pip install kernels"),
    ],
)
def test_what_cannot_work_here_is_one_message(prepared, override, said):
    with pytest.raises(SystemExit) as stop:
        main(compose_config(*TINY, *FAST, override))
    text = str(stop.value).strip()
    assert re.search(said, text) and "defect" not in text and "\n" not in text


def test_a_missing_deepspeed_is_named_with_its_command():
    with (
        pytest.raises(UserError, match=r"not installed: .*--group deepspeed"),
        explain_missing_library(),
    ):
        raise PackageNotFoundError("The 'deepspeed>=0.9.3' distribution was not found")


def test_an_import_that_fails_in_our_own_code_stays_a_defect():
    with pytest.raises(ImportError), explain_missing_library():
        import stages.train.nothing  # noqa: F401


@pytest.mark.parametrize("method", ["lora", "dpo"])
def test_patience_needs_evaluations(config, method):
    with pytest.raises(UserError, match=r"best\.patience: nothing is evaluated during training"):
        config(f"train={method}", "train.best.patience=2", "train.args.eval_strategy='no'")
    config(f"train={method}", "train.best.patience=2")


def test_the_advice_for_quantization_is_to_install_only_if_something_is_missing(config, base):
    with pytest.raises(UserError) as error:
        loading.get_model(base, "float32", {"load_in_4bit": "yes"})
    assert "--group qlora" not in str(error.value) and "train.quantization" in str(error.value)


def test_a_quantized_model_has_its_adapter_in_float32(config, prepared, tmp_path):
    pytest.importorskip("bitsandbytes")
    more = ("train=qlora", "model.source.hidden_size=64", "model.dtype=bfloat16")
    trainer, *_ = trainer_of(config, prepared, tmp_path, *more)
    trained = {p.dtype for p in trainer.model.parameters() if p.requires_grad}
    assert trained == {torch.float32}


def test_a_card_that_emulates_bfloat16_uses_float16(config, monkeypatch, tmp_path):
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert loading.get_dtype("auto") == torch.float16
    monkeypatch.setattr(cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert loading.get_dtype("auto") == torch.bfloat16
    monkeypatch.undo()
    method = get_method(config("model.dtype=float16"))
    with pytest.raises(UserError, match=r"model\.dtype=float16: training in float16 needs a GPU"):
        get_arguments(method, dict(method.config.train.args), str(tmp_path), True)


def test_float16_scales_the_loss(config, monkeypatch, tmp_path):
    method = get_method(config("model.dtype=float16"))
    taken = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(type(method), "arguments", lambda self, **values: taken.update(values))
    get_arguments(method, dict(method.config.train.args), str(tmp_path), True)
    assert taken["fp16"] and not taken["bf16"]
    get_arguments(method, {"bf16": True}, str(tmp_path), True)
    assert taken["bf16"] and not taken["fp16"]
