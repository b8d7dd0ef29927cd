"""Load the saved model back and compare it with the one that was trained.

What is saved may differ from what was trained, for example if an adapter moved weights of the base
model or a library left a trained weight out. So the loss of some validation rows is computed before
saving, and again from the files. This is done for every method.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stages.core.environment.processes import SHARDING, is_sharded
from stages.core.errors import UserError
from stages.core.models.loading import get_tuned_model

if TYPE_CHECKING:
    from stages.train.methods.base import Method

log = logging.getLogger(__name__)
ROWS = 4  # validation rows
JUDGES = ("ref_model", "teacher_model")  # TRL's names of models beside the trained one
# How far the loss of the files may be from the loss of the trained model, relative to a loss of at
# least 1. The same weights go through the same operations, so that the difference is usually 0. On
# a GPU a library may choose another kernel.
EXACT = {"cpu": 1e-4, "cuda": 1e-3}
# The same if weights are rounded in between. Adapters of the default model that were trained in
# bfloat16 were 0.001 off when merged, and 0.005 with a learning rate of 1e-4.
ROUNDED = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 2e-2}


def measure(trainer: Any, method: "Method", model: Any) -> list[float]:
    """Compute the loss of each of the first validation rows, in evaluation mode.

    If the model is sharded, every process must call this function.
    """
    rows = trainer.eval_dataset.select(range(min(ROWS, len(trainer.eval_dataset))))
    model.eval()
    # Compiled layers round differently, and evaluation would compile them again.
    with torch.no_grad(), trainer.autocast(), torch.compiler.set_stance("force_eager"):
        return [float(method.compute_row_loss(model, row)) for row in rows]


def check_reloaded(
    trainer: Any, method: "Method", trained: Sequence[float], folder: Path
) -> dict[str, Any]:
    """Load the model from its files and compare the losses of the rows.

    An adapter is also merged into its base model, because the merged model is the one that is
    measured and registered. On a quantized base model it is not merged, because it will be merged
    into the base model that is not quantized.

    Args:
        trainer: The trainer. Its model is released first and cannot be used any more.
        method: The training method.
        trained: What `measure` returned for the trained model.
        folder: The folder with the files.

    Returns:
        The mean losses for `training.json`.

    Raises:
        UserError: The losses differ by more than the tolerance, or the adapter cannot be merged.
    """
    attention = trainer.model.config._attn_implementation
    quantized = method.config.train.quantization is not None
    # Liger's kernels are in the trained model alone.
    kernels = trainer.args.use_liger_kernel
    rounded = bool(trainer.initial_adapter) or quantized or kernels or is_sharded()
    _release(trainer)
    # Loading a new head draws random values.
    with _unsharded(), torch.random.fork_rng():
        model = method.load_saved(folder)
        model.set_attn_implementation(attention)
        found = {"trained": _mean(trained)}
        limit = _rounding(model) if rounded else EXACT.get(model.device.type, EXACT["cuda"])
        found["reloaded"] = _compare(trainer, method, model, trained, limit, "the saved files")
        if method.config.train.adapter and not quantized:
            del model  # two models would need the memory of both
            merged = _load_merged(method, folder)
            merged.set_attn_implementation(attention)
            limit = _rounding(merged)
            name = "the adapter, merged into the base model"
            found["merged"] = _compare(trainer, method, merged, trained, limit, name)
    return {"rows": len(trained), **found}


def _compare(
    trainer: Any, method: "Method", model: Any, trained: Sequence[float], limit: float, what: str
) -> float:
    losses = measure(trainer, method, model)
    before = _mean(trained)
    apart = _mean([abs(a - b) for a, b in zip(losses, trained, strict=True)])
    log.info(
        "The loss of %d validation rows is %.6f for %s and %.6f for the trained model.",
        len(trained),
        _mean(losses),
        what,
        before,
    )
    if not apart <= limit * max(1.0, before):  # also if it is not a number
        raise UserError(
            f"{what}: not what was trained. The loss of {len(trained)} validation rows is "
            f"{_mean(losses):.6f}, and it was {before:.6f} before saving. The rows differ by "
            f"{apart:.6f} on average, and at most {limit * max(1.0, before):.6f} would be "
            "rounding. No model was written. Try other settings in train.adapter, such as "
            "init_lora_weights=true, and please report this with your configuration."
        )
    return _mean(losses)


def _load_merged(method: "Method", folder: Path) -> Any:
    """Load the model that is measured and registered.

    It is merged in float32. In bfloat16 a weight would swallow a change below its last digit, and so
    most of what a low learning rate has trained.
    """
    try:
        return get_tuned_model(
            method.base, method.config.model.dtype, folder, kind=method.model_class
        )
    except (ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"train.adapter: peft cannot merge this adapter into the base model: {error}. The "
            "merged model is the one that is measured and registered. No model was written."
        ) from error


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def _rounding(model: Any) -> float:
    """Return the tolerance for the type of the base model's weights."""
    weight = model.get_input_embeddings().weight
    return ROUNDED.get(weight.dtype, ROUNDED[torch.bfloat16])


def _release(trainer: Any) -> None:
    """Free the memory of the models of a trainer and of the optimizer, whoever refers to them."""
    if is_sharded():
        trainer.accelerator.free_memory()
    else:
        models = [trainer.model, *(getattr(trainer, name, None) for name in JUDGES)]
        for model in filter(None, models):
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.data = tensor.data.new_empty(0)
        if trainer.optimizer is not None:
            trainer.optimizer.state.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _unsharded() -> Iterator[None]:
    """Load whole models in this process, although training shared the weights among processes."""
    if not is_sharded():
        yield
        return
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    before = dict(os.environ)
    unset_hf_deepspeed_config()
    os.environ |= dict.fromkeys(SHARDING, "false")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
