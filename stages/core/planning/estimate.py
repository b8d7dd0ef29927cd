"""Estimates of training time and memory from the dimensions of the model and the speed of this
machine.

The module does not import torch, so that `prepare` can show the estimate before anything heavy is
loaded. `train` repeats it and reports how far it was off.
"""

import math
import os
import shutil
import time
from functools import cache
from pathlib import Path
from typing import Any

from stages.core.config.train import TrainConfig
from stages.core.planning.auto import count_replay_rows, number, resolve, steps_per_epoch
from stages.core.planning.model_dimensions import ModelDimensions

# The next four constants were measured with the default model and data on two cores. Training
# reached 626 tokens/s without padding. With padding it took 3.0 GB, 2.7 GB with micro-batches of
# 512 tokens and 3.8 GB with 1,024.
EFFICIENCY = 0.58  # the speed of training divided by the speed of a matrix product
BFLOAT16_GAIN = 2.0  # the speed-up of bfloat16 if the processor multiplies it natively
PROCESS_BYTES = 1.1e9  # memory of the process before its first step, without the weights
ACTIVATION_BYTES = 10.0  # kept per token for each input and output of a layer's linear layers
CPU_TOKENS = 768  # what `train.micro_batch_tokens=auto` means on a CPU
# transformers has two names for the same feature.
RECOMPUTES = ("gradient_checkpointing", "activation_checkpointing")
# Tokens of a replay row of the default model (`stages/train/replay_writer.py`), and tokens of its
# answer.
REPLAY_TOKENS = 65
REPLAY_TRAINED = 24
# AdamW keeps weight, gradient and two moments in float32 (Rajbhandari et al., "ZeRO", 2020).
OPTIMIZER_BYTES = 16
MOMENT_BYTES_8BIT = 2  # of two moments (Dettmers et al., "8-bit optimizers", 2022)


def estimate_training(
    train: TrainConfig,
    dimensions: ModelDimensions | None,
    rows: int,
    tokens: int,
    trained: int,
    limit: int,
    dtype: str,
) -> dict[str, Any]:
    """Estimate steps and tokens of training, and if possible seconds and peak memory.

    Args:
        train: The method and arguments of training. `auto` among them is resolved.
        dimensions: The dimensions of the model, or None if it is unknown.
        rows: Training rows of the task. Replay rows are added here. Prose is cut into pieces, and
            if there are more pieces than rows, training takes more steps than estimated.
        tokens: The tokens of all training rows together. `prepare` counts one answer per row, but
            pairs have two.
        trained: The number of these tokens whose loss counts.
        limit: The maximum number of tokens of a row.
        dtype: `auto`, `bfloat16` or `float32`.

    Raises:
        UserError: An argument that the estimate uses is not a number.
    """
    replayed = count_replay_rows(train, rows)  # their tokens are unknown until they are written
    rows = rows + replayed
    tokens = tokens + replayed * REPLAY_TOKENS
    trained = trained + replayed * REPLAY_TRAINED
    args, reasons = resolve(train, dimensions.hidden if dimensions else None, rows)
    steps, seen = _get_steps(train, args, rows)
    known = {
        "tokens_per_epoch": tokens,
        "steps": steps,
        "tokens": round(tokens * seen),
        "auto": reasons,
    }
    counted = (
        f"{tokens:,} tokens per epoch, {steps:,} steps"
        if train.method == "sft"
        else f"{steps:,} steps"
    )
    also = "".join(f" {key}={args[key]}: {reason}." for key, reason in reasons.items())
    why = _unknown(train, dimensions)
    if dimensions is None or why:
        sentence = (
            f"Estimate for training: {counted}. Time and memory are not estimated, "
            f"because {why}.{also}"
        )
        return {
            **known,
            "sentence": sentence,
            "how": "The stage train reports its speed while it runs.",
        }
    fast = dtype == "bfloat16" or (dtype == "auto" and has_bfloat16())
    speed = matrix_product_speed() * (BFLOAT16_GAIN if fast else 1)
    work = operations(train, dimensions, tokens, trained)
    work += base_operations(train, dimensions, replayed)
    seconds = seen * work / (speed * EFFICIENCY)
    # Here is no GPU, so `auto` is the number of a CPU.
    pieces = CPU_TOKENS if train.micro_batch_tokens == "auto" else train.micro_batch_tokens
    peak = memory(train, dimensions, min(limit, pieces), 2 if fast else 4)
    sentence = (
        f"Estimate for training: {counted}, {known['tokens']:,} tokens in total, "
        f"about {seconds / 60:,.1f} minutes and {peak / 1e9:.1f} GB on this machine.{also}"
    )
    how = (
        f"Estimated from the operations of the model's linear layers at {EFFICIENCY:.0%} of the "
        "speed at which this machine now multiplies matrices, "
        f"{speed / 1e9:,.0f} GFLOP/s{' (bfloat16)' if fast else ''}. Evaluation is not included. "
        "The stage train reports how far the estimate was off."
    )
    return {
        **known,
        "seconds": seconds,
        "peak_memory_bytes": peak,
        "sentence": sentence,
        "how": how,
    }


def count_forward_tokens(
    train: TrainConfig, dimensions: ModelDimensions | None, rows: int, tokens: int
) -> int:
    """Count the tokens of forward passes that take as much work as training.

    Training counts 3 tokens for each token that it reads, and 2 with an adapter. A backward pass
    takes twice the work of a forward pass, or the same work if the weights are frozen (see
    `operations`). Evaluation is left out. For methods other than `sft` the count is a lower bound,
    because they read several answers per row.

    Args:
        train: The method and arguments of training.
        dimensions: The dimensions of the model, or None if it is unknown.
        rows: The number of training rows.
        tokens: The tokens of all training rows together.
    """
    args, _ = resolve(train, dimensions.hidden if dimensions else None, rows)
    passes = 3 if train.adapter is None else 2
    return round(passes * tokens * _get_steps(train, args, rows)[1])


def _get_steps(train: TrainConfig, args: dict[str, Any], rows: int) -> tuple[int, float]:
    """Return the number of optimizer steps and of epochs."""
    a_epoch = steps_per_epoch(train, args, rows)
    most = int(number(args, "max_steps", -1))
    steps = most if most > 0 else math.ceil(a_epoch * number(args, "num_train_epochs", 3))
    return steps, steps / a_epoch


def _unknown(train: TrainConfig, dimensions: ModelDimensions | None) -> str | None:
    """Return why time and memory cannot be estimated, or None if they can.

    The constants above were measured with `sft` in one process on a CPU.
    """
    if dimensions is None:
        return "the model's configuration does not state its size"
    if dimensions.mixture:
        return "there is no estimate for a mixture of experts"
    if train.method != "sft":
        return f"there is no estimate for method {train.method}"
    if train.launcher.kind != "single":
        return f"training will run in processes of launcher.kind={train.launcher.kind}"
    if train.quantization is not None or any(train.args.get(key) for key in RECOMPUTES):
        return "there is no estimate for quantization or gradient checkpointing"
    return "training will run on the GPU" if _has_gpu() else None


def _has_gpu() -> bool:
    """Return whether torch will probably find a GPU, without importing it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1")
    return visible and shutil.which("nvidia-smi") is not None


def operations(train: TrainConfig, dimensions: ModelDimensions, tokens: int, trained: int) -> float:
    """Count the floating-point operations of one epoch.

    The forward pass takes two operations per weight and token. The backward pass takes two for the
    activations and two for the weights that are trained (Kaplan et al., "Scaling laws for neural
    language models", 2020).
    """
    body = dimensions.layers * dimensions.layer_parameters
    head = dimensions.vocabulary * dimensions.hidden
    if train.adapter is None:
        return 6.0 * body * tokens + 6.0 * head * trained
    adapters = dimensions.adapter_parameters(train.adapter.get("r", 8))
    return (4.0 * body + 6.0 * adapters) * tokens + 4.0 * head * trained


def base_operations(train: TrainConfig, dimensions: ModelDimensions, replayed: int) -> float:
    """Count the operations of an epoch in which the base model is asked for its probabilities.

    It reads every replay row once more if `train.replay.loss` is `kl`.
    """
    if not train.replay.asks_base:
        return 0.0
    body = dimensions.layers * dimensions.layer_parameters
    head = dimensions.vocabulary * dimensions.hidden
    return 2.0 * replayed * (body * REPLAY_TOKENS + head * REPLAY_TRAINED)


def memory(
    train: TrainConfig, dimensions: ModelDimensions, tokens: int, weight_bytes: int
) -> float:
    """Estimate the peak memory in bytes.

    The peak consists of the process, the weights, the optimizer, and the activations of one
    micro-batch.
    """
    h = dimensions.hidden
    kv = dimensions.key_value
    i = dimensions.intermediate
    activations = ACTIVATION_BYTES * dimensions.layers * (4 * h + 2 * kv + 3 * i) * tokens
    if train.adapter is None:
        return PROCESS_BYTES + trained_bytes(train) * dimensions.parameters + activations
    adapters = OPTIMIZER_BYTES * dimensions.adapter_parameters(train.adapter.get("r", 8))
    return PROCESS_BYTES + weight_bytes * dimensions.parameters + adapters + activations


def trained_bytes(train: TrainConfig) -> int:
    """Return the bytes of a trained weight without an adapter, its gradient and its two moments.

    Moments have the precision of the weight, unless the optimizer keeps them in 8 bits.
    """
    weight = 2 if train.trained_dtype == "bfloat16" else 4
    eight = "8bit" in str(train.args.get("optim"))
    return 2 * weight + (MOMENT_BYTES_8BIT if eight else 2 * weight)


@cache
def matrix_product_speed(size: int = 1024, runs: int = 2) -> float:
    """Measure the floating-point operations per second of a product of float32 matrices.

    The result is the best of the runs. Two take 0.14 s on one core and are at most a tenth below
    the best of eight.
    """
    import numpy as np

    a = np.random.default_rng(0).random((size, size), np.float32)
    best = math.inf
    for _ in range(runs):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def has_bfloat16() -> bool:
    """Return whether the processor reports that it multiplies bfloat16 natively."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text(errors="replace") if info.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
