"""The settings of FSDP that Tuneproof changes."""

from types import SimpleNamespace

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy

from stages.train import arguments
from stages.train.arguments import get_arguments
from stages.train.methods import get_method
from stages.train.trainers.sharding import reduce_in_float32


def test_gradients_are_added_in_float32_and_products_stay(config):
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16)
    plugin = SimpleNamespace(mixed_precision_policy=policy)
    reduce_in_float32(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)))
    found = plugin.mixed_precision_policy
    assert (found.param_dtype, found.reduce_dtype) == (torch.bfloat16, torch.float32)
    reduce_in_float32(SimpleNamespace(state=SimpleNamespace()))
    reduce_in_float32(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=None)))


def test_a_sharded_training_adds_gradients_at_each_batch(config, prepared, tmp_path, monkeypatch):
    method = get_method(config("train=dpo"))
    plain = get_arguments(method, {}, str(tmp_path), True)
    assert plain.accelerator_config.gradient_accumulation_kwargs is None
    monkeypatch.setattr(arguments, "is_sharded", lambda: True)
    sharded = get_arguments(method, {}, str(tmp_path), True)
    assert sharded.accelerator_config.gradient_accumulation_kwargs == {"sync_each_batch": True}
    own = {"accelerator_config": {"split_batches": True}}
    assert get_arguments(method, own, str(tmp_path), True).accelerator_config.split_batches
