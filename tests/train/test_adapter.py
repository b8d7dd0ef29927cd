"""What is saved of an adapter is what was trained, or nothing is saved."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.core.errors import UserError
from stages.core.models.loading import TUNED
from stages.train import build_trainer, export, initial_values, reload_check
from stages.train.__main__ import main
from tests.conftest import TINY, compose_config
from tests.train.test_every_option import CASES, FAST, label
from tests.train.test_every_option import prepare as prepare_rows

ADAPTER = "++train.adapter={r: 4, lora_alpha: 8, target_modules: all-linear"
EVA = "init_lora_weights: eva"
STEPS = ("train.args.max_steps=3", "model.source.hidden_size=16")


def train(*more, adapter="", option="lora"):
    """Train three steps and return what `training.json` says about the files."""
    given = f"{ADAPTER}{', ' if adapter else ''}{adapter}}}"
    main(compose_config(*TINY, *FAST, *STEPS, f"train={option}", given, *more))
    return json.loads((TUNED / "training.json").read_text())["loss_after_reloading"]


@pytest.mark.parametrize(
    "adapter",
    [
        "init_lora_weights: false",
        "init_lora_weights: gaussian",
        "init_lora_weights: orthogonal",
        "init_lora_weights: mica",
        "init_lora_weights: corda",
        "init_lora_weights: corda, corda_config: {corda_method: kpm}, rank_pattern: {q_proj: 2}",
        "init_lora_weights: lora_ga",
        "init_lora_weights: lora_ga, lora_ga_config: {direction: random}, lora_dropout: 0.1",
        "init_lora_weights: eva",
        "init_lora_weights: eva, use_dora: true, lora_dropout: 0.1, use_rslora: true, "
        "rank_pattern: {q_proj: 2}",
        "init_lora_weights: pissa",
        "init_lora_weights: pissa_niter_2",
        "init_lora_weights: olora, modules_to_save: [lm_head]",
        "init_lora_weights: pissa_niter_2, use_rslora: true, rank_pattern: {q_proj: 2}, "
        "alpha_pattern: {k_proj: 6}",
        "use_dora: true, modules_to_save: [lm_head]",
        "trainable_token_indices: [65, 66]",
    ],
)
def test_what_is_loaded_back_is_what_was_trained(prepared, adapter):
    found = train(adapter=adapter)
    assert found["reloaded"] == pytest.approx(found["trained"], rel=1e-6)
    assert found["merged"] == pytest.approx(found["trained"], rel=1e-5)


def test_a_random_part_of_the_base_model_would_be_another_one_when_loaded(prepared, monkeypatch):
    monkeypatch.setattr(export, "make_plain", lambda *_: None)
    with pytest.raises(SystemExit, match=r"the saved files: not what was trained\. The loss of 4"):
        train(adapter="init_lora_weights: pissa_niter_2")
    assert not TUNED.exists() and not Path("metrics/train.json").exists()


def test_the_merged_model_that_is_measured_later_is_the_one_that_is_compared(prepared, monkeypatch):
    honest = reload_check.get_tuned_model

    def spoil(*args, **others):
        model = honest(*args, **others)
        model.get_output_embeddings().weight.data.mul_(2)
        return model

    monkeypatch.setattr(reload_check, "get_tuned_model", spoil)
    with pytest.raises(SystemExit, match="merged into the base model: not what was trained"):
        train()


def test_the_head_of_a_classifier_is_saved_beside_a_part_of_the_base_model(workspace):
    prepare_rows(label)
    found = train(option="sequence-classification", adapter="init_lora_weights: pissa_niter_2")
    assert found["reloaded"] == pytest.approx(found["trained"], rel=1e-5)
    assert "score.weight" in "".join(load_file(TUNED / "adapter_model.safetensors"))
    assert json.loads((TUNED / "adapter_config.json").read_text())["r"] == 8


@pytest.mark.parametrize("option", ["lora", "full"])
def test_a_weight_that_was_not_saved_stops_before_anything_is_written(
    prepared, monkeypatch, option
):
    def forget(folder, _):
        [path] = folder.glob("*.safetensors")
        weights = load_file(path)
        save_file({k: torch.zeros_like(w) for k, w in weights.items()}, path, {"format": "pt"})

    monkeypatch.setattr(export, "make_plain", forget)
    with pytest.raises(SystemExit, match=r"is \d+\.\d+, and it was \d+\.\d+ before saving"):
        main(compose_config(*TINY, *FAST, *STEPS, f"train={option}"))
    assert not TUNED.exists()


@pytest.mark.parametrize(
    ("adapter", "more", "said"),
    [
        (
            "init_lora_weights: eva, trainable_token_indices: [65]",
            (),
            "computed from linear layers",
        ),
        ("init_lora_weights: eva, target_parameters: [x]", (), "computed from linear layers"),
        ("init_lora_weights: corda", ("train=dpo",), "the reference of method dpo"),
        ("init_lora_weights: corda", ("train=qlora",), "needs weights that are not quantized"),
        ("init_lora_weights: corda, corda_config: {cache_file: x}", (), "come from other rows"),
        (
            "init_lora_weights: lora_ga",
            ("train=orpo",),
            "the gradient of the answers of method sft",
        ),
        ("init_lora_weights: loftq", (), "loftq: it replaces the base model's weights"),
        ("init_lora_weights: pissa, use_dora: true", (), "DoRA scales that part too"),
        ("init_lora_weights: olora", ("train=dpo",), "the reference of method dpo"),
        ("init_lora_weights: pissa", ("train=grpo",), "the reference of method grpo"),
        ("init_lora_weights: pissa", ("train=qlora",), "needs weights that are not quantized"),
        ("alora_invocation_tokens: [1]", (), "cannot be merged into the base model"),
        ("layer_replication: [[0, 2]]", (), "cannot be merged into the base model"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_any_work(config, adapter, more, said):
    with pytest.raises(UserError, match=said):
        config(*more, f"{ADAPTER}, {adapter}}}")


def test_biases_that_the_base_model_does_not_have_cannot_be_merged(prepared):
    with pytest.raises(SystemExit, match=r"lora_bias: \S+q_proj of the base model has no bias"):
        train(adapter="lora_bias: true")


@pytest.mark.parametrize("option", ["dpo", "grpo", "qlora", "reward-model", "token-classification"])
def test_every_method_has_rows_for_the_initial_values(workspace, option):
    case = CASES[option]
    prepare_rows(case.records)
    found = train(*case.overrides, option=option, adapter=EVA)
    assert found["reloaded"] == pytest.approx(found["trained"], rel=1e-4)
    facts = json.loads((TUNED / "training.json").read_text())["initial_adapter"]
    assert facts["kind"] == "eva" and facts["rows"] == 24
    assert facts["ranks"]["most"] > 4 > facts["ranks"]["least"]


def begin(*more):
    """The adapter before training, by name."""
    started = {}

    def keep(trainer, method, checkpoint):
        initial_values.initialize_from_rows(trainer, method, checkpoint)
        state = trainer.model.state_dict()
        started.update({name: w.clone() for name, w in state.items() if "lora_A" in name})
        raise UserError("stop")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="stop"):
        patch.setattr(build_trainer, "initialize_from_rows", keep)
        train(*more, adapter=EVA)
    return started


def test_the_initial_values_depend_on_the_rows_and_the_seed_alone(prepared, monkeypatch):
    monkeypatch.setattr(initial_values, "ROWS", 12)
    first = begin()
    assert all(torch.equal(first[name], w) for name, w in begin().items())
    other = begin("train.train_fraction=0.5")
    assert not all(torch.equal(first[name], other[name]) for name in first.keys() & other.keys())
    other = begin("seed=7")
    assert not all(torch.equal(first[name], other[name]) for name in first.keys() & other.keys())


def test_directions_that_never_converge_are_taken_after_some_passes(prepared, capsys):
    train(adapter=f"{EVA}, eva_config: {{tau: 1.0}}")
    [passes] = re.findall(r"it took (\d+) passes", capsys.readouterr().err)
    assert initial_values.PASSES < int(passes) < initial_values.PASSES + 4


@pytest.mark.parametrize(
    ("adapter", "more", "said"),
    [
        ("r: 12", (), r"the rank 24.* has 16 inputs\. Lower r, or set .*rho: 1"),
        ("r: 8", ("train.micro_batch_tokens=16",), r"needs 16 tokens that are learned in one pass"),
    ],
)
def test_ranks_for_which_there_are_no_directions(prepared, adapter, more, said):
    with pytest.raises(SystemExit, match=said):
        train(*more, f"++train.adapter.{adapter.replace(': ', '=')}", adapter=EVA)
    assert not TUNED.exists()
