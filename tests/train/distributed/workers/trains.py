"""A worker that shards with FSDP2 on a processor, which accelerate does on GPUs alone: it is told that it has some.

Process 1 is killed before the step `KILLED_AT`, where it is set.
"""

import os
import signal
from pathlib import Path

import torch
from accelerate import accelerator, state
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from stages.train.distributed import worker
from stages.train.monitoring import checkpoints


def kill(self, args, state, control, **others):
    if os.environ["RANK"] == "1" and str(state.global_step) == os.environ.get("KILLED_AT"):
        os.kill(os.getpid(), signal.SIGKILL)


def shard(*args, prepare=accelerator.fsdp2_prepare_model):
    model = prepare(*args)
    Path("sharded").touch()
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    return model


checkpoints.Checkpoints.on_step_begin = kill
if os.environ.get("ACCELERATE_USE_FSDP"):
    accelerator.fsdp2_prepare_model = shard
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    state.PartialState._prepare_backend = lambda *args, **others: (
        "gloo",
        DistributedType.MULTI_GPU,
    )
    torch.distributed.init_process_group("gloo")
worker.main()
