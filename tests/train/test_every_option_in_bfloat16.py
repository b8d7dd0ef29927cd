"""Every option of conf/train runs in bfloat16 on a GPU, where it meets the kernels for 16 bits."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages.core.models.loading import TUNED
from stages.train.__main__ import main
from stages.train.trainers.varlen_attention import AMPERE, VARLEN
from tests.conftest import TINY, compose_config
from tests.train.test_every_option import CASES, FAST, OPTIONS, prepare, teacher  # noqa: F401

SAME = 0.02  # how far the loss after reloading may be from the one of training, in bfloat16


def has_kernel() -> bool:
    """Whether this GPU has the attention for rows without padding."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= AMPERE


@pytest.mark.gpu
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains_in_bfloat16(workspace, option):
    if option == "qlora":
        pytest.importorskip("bitsandbytes")
    case = CASES[option]
    prepare(case.records)
    case.set_up()
    chosen = (f"train={option}", *case.overrides, "model.dtype=bfloat16")
    main(compose_config(*TINY, *FAST, *chosen))
    weights = [w for path in TUNED.glob("*.safetensors") for w in load_file(path).values()]
    assert all(torch.isfinite(weight).all() for weight in weights) and weights
    numbers = json.loads(Path("metrics/train.json").read_text())
    assert math.isfinite(numbers["eval_loss"])
    assert numbers["eval_loss"] < numbers["eval_loss_before_training"] or not case.learns
    facts = json.loads((TUNED / "training.json").read_text())
    if facts["method"] == "sft" and has_kernel():
        assert facts["determinism"]["attention"] == VARLEN
    reloaded = facts["loss_after_reloading"]
    assert reloaded["reloaded"] == pytest.approx(reloaded["trained"], abs=SAME)
