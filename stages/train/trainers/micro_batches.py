"""Choose `train.micro_batch_tokens` if it is `auto`, and choose the same number after a resume."""

import logging
from pathlib import Path
from typing import Any

from stages.core.config.train import TrainConfig
from stages.core.environment.processes import is_main, is_sharded
from stages.core.planning.auto import processes
from stages.core.planning.gpu_memory import choose_tokens
from stages.core.planning.model_dimensions import ModelDimensions
from stages.core.storage.files import read_json, write_json
from stages.train.monitoring.checkpoints import latest_checkpoint

log = logging.getLogger(__name__)
CHOSEN = "micro_batch_tokens.json"  # beside the checkpoints


def choose_micro_batch_tokens(
    train: TrainConfig, dimensions: ModelDimensions | None, folder: Path
) -> dict[str, Any]:
    """Choose the number of tokens in a pass.

    Another number adds gradients in another order. So a resumed training takes the number of its
    checkpoints, however much memory is free now. Every process must call this, after the model is
    loaded.

    Args:
        train: The section of the training.
        dimensions: The dimensions of the model, or None if they are unknown.
        folder: The folder of the checkpoints, which keeps the choice.

    Returns:
        The number as `value`, and a phrase that explains it as `why`.
    """
    from accelerate.utils import gather_object

    before = folder / CHOSEN
    if latest_checkpoint(folder) and before.exists():
        chosen = read_json(before)
    else:
        gpus = processes(train) if is_sharded() else 1
        mine = choose_tokens(train, dimensions, get_free_bytes(), gpus)
        # All processes take the smallest number, so that no card of several is too small for it.
        tokens, why = min(gather_object([mine]))
        chosen = {"value": tokens, "why": why}
        if is_main():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(before, chosen)
    log.info("train.micro_batch_tokens: %s (%s)", chosen["value"], chosen["why"])
    return chosen


def get_free_bytes() -> int | None:
    """Return the bytes of the GPU that this process has or may take, or None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved()
