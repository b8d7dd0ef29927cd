import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from stages.core.planning.gpu_memory import activation_bytes, state_bytes, working_bytes
from stages.core.planning.model_dimensions import ModelDimensions
from tests.conftest import ROOT
from tools.memory import MODELS, gpus_needed, tables

# Numbers of parameters from the model cards.
PUBLISHED = [
    0.494e9,
    1.54e9,
    7.62e9,
    8.03e9,
    14.8e9,
    32.8e9,
    70.6e9,
]
DIMENSIONS = ModelDimensions(128, 384, 4, 258, 64, tied=False)


def saved_bytes(method, tokens, checkpointing, layers=DIMENSIONS.layers):
    """Return the bytes that PyTorch keeps for the backward pass, without the weights."""
    sizes = {
        "hidden_size": DIMENSIONS.hidden,
        "intermediate_size": DIMENSIONS.intermediate,
        "num_hidden_layers": layers,
    }
    heads = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": DIMENSIONS.vocabulary,
    }
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, attn_implementation="sdpa"))
    if method == "LoRA":
        model = get_peft_model(
            model.to(torch.bfloat16), LoraConfig(r=1, target_modules="all-linear")
        )
        model.enable_input_require_grads()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def look(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        model.train()(
            input_ids=torch.ones(1, tokens, dtype=torch.long), use_cache=False, logits_to_keep=1
        )
    return sum(
        tensor.untyped_storage().nbytes()
        for pointer, tensor in kept.items()
        if pointer not in weights
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("method", ["full", "LoRA"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_those_that_pytorch_keeps(method, checkpointing):
    few, many = (
        saved_bytes(method, 320, checkpointing, layers)
        - saved_bytes(method, 64, checkpointing, layers)
        for layers in (2, 2 + DIMENSIONS.layers)
    )
    expected = activation_bytes(DIMENSIONS, method, 256, checkpointing)
    if checkpointing:  # the formula includes one more layer, which is recomputed
        expected -= activation_bytes(DIMENSIONS, method, 256, False) / DIMENSIONS.layers
    assert many - few == pytest.approx(expected, rel=0.03)


def test_autocast_keeps_a_copy_of_each_weight_that_is_trained():
    found = saved_bytes("full", 64, False) - activation_bytes(DIMENSIONS, "full", 64, False)
    linear = 2 * (
        DIMENSIONS.layers * DIMENSIONS.layer_parameters + DIMENSIONS.vocabulary * DIMENSIONS.hidden
    )
    assert found == pytest.approx(linear, rel=0.06)
    assert working_bytes(DIMENSIONS, "full", 1) == pytest.approx(linear, rel=0.06)


def test_shapes_are_those_of_the_models():
    assert [
        round(dimensions.parameters / 1e9, 2) for dimensions in MODELS.values()
    ] == pytest.approx([parameters / 1e9 for parameters in PUBLISHED], rel=0.01)


def test_more_gpus_are_needed_for_more_weights_and_fewer_for_larger_ones():
    for capacity in (24e9, 80e9):
        needed = [
            gpus_needed(dimensions, "full", capacity, 2048, 16) or math.inf
            for dimensions in MODELS.values()
        ]
        assert needed == sorted(needed)
    assert gpus_needed(MODELS["Llama-3.1-70B"], "full", 24e9, 2048, 16) is None
    # The QLoRA paper claims this for 65 billion parameters.
    assert state_bytes(MODELS["Llama-3.1-70B"], "QLoRA", 16) < 48e9


def test_the_tables_of_the_documentation_are_those_of_the_command():
    assert tables(MODELS, 2048, 16) in (ROOT / "docs/scaling.md").read_text()
