"""Run the training and measure its time, memory and energy."""

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stages.core.environment.energy import measure
from stages.core.planning.estimate import estimate_training
from stages.core.planning.model_dimensions import get_model_dimensions
from stages.train.monitoring.checkpoints import latest_checkpoint, resume
from stages.train.stored_examples import read_numbers

log = logging.getLogger(__name__)
DRY_RUN_STEPS = 2  # The number of steps of a dry run.

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

    from stages.train.methods.base import Method


def log_estimate(method: "Method", train: "Dataset") -> dict[str, Any]:
    """Log the estimate for training and return it.

    `prepare` logs the same estimate, but perhaps on another machine than the one that trains.
    """
    config = method.config
    tokens = int(read_numbers(train, "length").sum())
    # `choose_auto` logged these values when the trainer was built.
    chosen = _get_chosen_arguments(method)
    pieces = (
        method.metadata["auto"]
        .get("micro_batch_tokens", {})
        .get("value", config.train.micro_batch_tokens)
    )
    # `train` already contains the replay rows with their true lengths. Do not count them twice.
    mixed_in = config.train.replay.model_copy(update={"fraction": 0.0})
    resolved = config.train.model_copy(
        update={
            "args": config.train.args | chosen,
            "replay": mixed_in,
            "micro_batch_tokens": pieces,
        }
    )
    trained = int(read_numbers(train, "targets").sum()) if config.train.method == "sft" else 0
    dimensions = get_model_dimensions(config.model, method.base)
    expected = estimate_training(
        resolved,
        dimensions,
        len(train),
        tokens,
        trained,
        config.model.max_length,
        config.model.dtype,
    )
    log.info(expected["sentence"])
    return expected


def tune(trainer: Any, method: "Method", folder: "Path") -> dict[str, Any]:
    """Train to the end, resuming at the last complete checkpoint if there is one.

    Args:
        trainer: The trainer, ready to train.
        method: The training method.
        folder: The folder of the checkpoints.

    Returns:
        The headline numbers: the losses (nats per target token for method `sft`), tokens without
        padding, seconds, tokens per second, peak memory in bytes, the ratio of the estimate to the
        measured values, the values chosen for `auto`, and the energy if it was measured.
    """
    from peft.helpers import disable_input_dtype_casting

    expected = log_estimate(method, trainer.train_dataset)
    energy = method.config.energy
    progress = trainer.progress
    checkpoint = latest_checkpoint(folder)
    # The trainer itself evaluates before the first step, because only then is a sharded model in
    # place. A checkpoint already contains this evaluation.
    trainer.args.eval_on_start = checkpoint is None
    if checkpoint:
        log.info(
            "Resuming at step %d from an interrupted run of this configuration.",
            resume(checkpoint, progress),
        )
    # Autocast multiplies in 16 bits whatever the adapter's dtype is. peft's cast of the input to
    # float32 before that would only cost time and memory.
    with (
        measure(energy) as used,
        disable_input_dtype_casting(trainer.model, active=trainer.args.bf16 or trainer.args.fp16),
    ):
        progress.start()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds = progress.seconds
    before = next(row for row in trainer.state.log_history if "eval_loss" in row)
    trained = [p.numel() for p in trainer.model.parameters() if p.requires_grad]
    measured = {"seconds": seconds, "peak_memory_bytes": peak_memory()}
    off = {name: expected[name] / value for name, value in measured.items() if name in expected}
    if off:
        log.info(
            "The estimate was %s.",
            ", ".join(f"{ratio:.2f} of the measured {name}" for name, ratio in off.items()),
        )
    return {
        "train_loss": progress.loss / max(trainer.state.global_step, 1),
        "eval_loss_before_training": before["eval_loss"],
        **get_validation(trainer),
        "steps": trainer.state.global_step,
        "tokens": progress.tokens,
        **measured,
        "estimate_ratio": off,
        "tokens_per_second": progress.tokens / seconds,
        "trained_parameters": sum(trained),
        **method.numbers,
        **({"auto": chosen} if (chosen := _get_chosen_arguments(method)) else {}),
        **({"energy": {"country": energy.country, **asdict(used)}} if energy.measure else {}),
    }


def _get_chosen_arguments(method: "Method") -> dict[str, Any]:
    """Return the values that were chosen for `auto` in `train.args`, on which the result depends.

    The tokens of a pass are not among them, because they depend on the machine.
    """
    auto = method.metadata["auto"].items()
    return {key: fact["value"] for key, fact in auto if key in method.config.train.args}


def get_validation(trainer: Any) -> dict[str, Any]:
    """Return `eval_loss` and the other validation metrics of the model that is saved."""
    step = trainer.state.best_global_step or trainer.state.global_step
    rows = [row for row in trainer.state.log_history if row["step"] == step and "eval_loss" in row]
    found = rows[-1] if rows else trainer.evaluate()
    # `num_tokens` is TRL's count, which starts again after an interruption.
    times = ("runtime", "_per_second", "_time", "num_tokens")
    measured = {key: value for key, value in found.items() if key.startswith("eval_")}
    kept = {key: value for key, value in measured.items() if not key.endswith(times)}
    return {**kept, "best_step": step}


def dry_run(trainer: Any, method: "Method") -> None:
    """Train for two steps and log how long the whole training would take at that rate.

    The first step is slower than most because it warms up caches.

    Args:
        trainer: The trainer, ready to train. It cannot be used afterwards.
        method: The training method.
    """
    expected = log_estimate(method, trainer.train_dataset)
    trainer.args.max_steps = DRY_RUN_STEPS
    progress = trainer.progress
    progress.start()
    trainer.train()
    log.info(
        "Dry run: %d steps, %s tokens, %.0f tokens/s, peak memory %.1f GB. "
        "All %s steps would take about %.1f minutes at that rate. Nothing was written.",
        *(DRY_RUN_STEPS, f"{progress.tokens:,}", progress.rate, peak_memory() / 1e9),
        *(f"{expected['steps']:,}", _get_whole(method, expected, progress) / 60),
    )


def _get_whole(method: "Method", expected: dict[str, Any], progress: Any) -> float:
    """Estimate the seconds of the whole training from the measured steps.

    For method `sft` the estimate scales with tokens, which are counted beforehand, because the rows
    of two steps may be shorter or longer than the average. For other methods it scales with steps.
    """
    if method.config.train.method == "sft":
        return expected["tokens"] * progress.seconds / progress.tokens
    return expected["steps"] * progress.seconds / DRY_RUN_STEPS


def peak_memory() -> int:
    """Return the peak memory of this process in bytes: GPU memory on a GPU, resident otherwise."""
    import resource
    import sys

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
