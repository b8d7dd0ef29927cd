"""Training itself, and what it took."""

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stages.core.environment.energy import measure
from stages.core.planning.estimate import estimate
from stages.core.planning.model_dimensions import get_shape
from stages.train.monitoring.checkpoints import find, go_on

log = logging.getLogger(__name__)
REHEARSED = 2  # steps of a dry run

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

    from stages.train.methods.base import Method


def expect(method: "Method", train: "Dataset") -> dict[str, Any]:
    """What `prepare` says before training, said again on the machine that trains."""
    from stages.train.examples import IGNORED

    config = method.config
    tokens = sum(train["length"])
    chosen = {
        key: fact["value"] for key, fact in method.facts["auto"].items()
    }  # and said when the trainer was made
    # The replay rows are among the rows of `train` here, with their true lengths: not to be counted twice.
    mixed_in = config.train.replay.model_copy(update={"share": 0.0})
    resolved = config.train.model_copy(
        update={"args": config.train.args | chosen, "replay": mixed_in}
    )
    labels = train["labels"] if method.config.train.method == "sft" else []
    trained = sum(label != IGNORED for row in labels for label in row)
    shape = get_shape(config.model, method.base)
    expected = estimate(
        resolved, shape, len(train), tokens, trained, config.model.max_length, config.model.dtype
    )
    log.info(expected["sentence"])
    return expected


def tune(trainer: Any, method: "Method", folder: "Path") -> dict[str, Any]:
    """Train to the end, from the last complete checkpoint where there is one.

    Args:
        trainer: ready to go.
        method: the way it trains.
        folder: of the checkpoints.

    Returns:
        The headline numbers: losses (nats a target token where the method is `sft`), tokens (non-padding), seconds,
        rate, peak memory (bytes), how far the estimate was off, what `auto` chose, and the electricity where it was
        measured.
    """
    from peft.helpers import disable_input_dtype_casting

    expected = expect(method, trainer.train_dataset)
    energy = method.config.energy
    journal = trainer.journal
    checkpoint = find(folder)
    trainer.args.eval_on_start = (
        checkpoint is None
    )  # when a sharded model is where it is; a checkpoint has it already
    if checkpoint:
        log.info(
            "Going on from step %d, where an earlier run of the very same was cut off.",
            go_on(checkpoint, journal),
        )
    # Autocast multiplies in bfloat16 whatever the adapter's type; peft's cast to float32 before it is time and memory.
    with (
        measure(energy) as used,
        disable_input_dtype_casting(trainer.model, active=trainer.args.bf16),
    ):
        journal.start()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds = journal.seconds
    before = next(row for row in trainer.state.log_history if "eval_loss" in row)
    trained = [p.numel() for p in trainer.model.parameters() if p.requires_grad]
    measured = {"seconds": seconds, "peak_memory_bytes": peak_memory()}
    off = {name: expected[name] / value for name, value in measured.items() if name in expected}
    if off:
        log.info(
            "Expected over measured: %s",
            ", ".join(f"{name} {ratio:.2f}" for name, ratio in off.items()),
        )
    return {
        "training_loss": journal.loss / max(trainer.state.global_step, 1),
        "validation_loss_before": before["eval_loss"],
        **get_validation(trainer),
        "steps": trainer.state.global_step,
        "tokens": journal.tokens,
        **measured,
        "expected_over_measured": off,
        "tokens_per_second": journal.tokens / seconds,
        "trained_parameters": sum(trained),
        **(
            {"chosen": {key: fact["value"] for key, fact in auto.items()}}
            if (auto := method.facts["auto"])
            else {}
        ),
        **({"energy": {"country": energy.country, **asdict(used)}} if energy.measure else {}),
    }


def get_validation(trainer: Any) -> dict[str, Any]:
    """`validation_loss` and what else was measured on the validation rows, of the model as it is saved."""
    step = trainer.state.best_global_step or trainer.state.global_step
    rows = [row for row in trainer.state.log_history if row["step"] == step and "eval_loss" in row]
    found = rows[-1] if rows else trainer.evaluate()
    times = (
        "runtime",
        "_per_second",
        "_time",
        "num_tokens",
    )  # the last is TRL's count, which forgets interruptions
    kept = {
        key.removeprefix("eval_"): value for key, value in found.items() if key.startswith("eval_")
    }
    numbers = {f"validation_{key}": value for key, value in kept.items() if not key.endswith(times)}
    return {**numbers, "best_step": step}


def rehearse(trainer: Any, method: "Method") -> None:
    """Two steps, and what all of them would take at this rate. The first is slower than most: it warms caches up.

    Args:
        trainer: ready to go; it is of no use afterwards.
        method: the way it trains.
    """
    expected = expect(method, trainer.train_dataset)
    trainer.args.max_steps = REHEARSED
    journal = trainer.journal
    journal.start()
    trainer.train()
    log.info(
        "Dry run: %d steps, %s tokens, %.0f tokens/s, %.1f GB at the peak. All %s steps would take about %.1f minutes "
        "at that rate. Nothing was written.",
        *(REHEARSED, f"{journal.tokens:,}", journal.rate, peak_memory() / 1e9),
        *(f"{expected['steps']:,}", _get_whole(method, expected, journal) / 60),
    )


def _get_whole(method: "Method", expected: dict[str, Any], journal: Any) -> float:
    """Seconds of all steps: by tokens where they are counted beforehand, for the rows of two steps are not as long as
    most; else by steps."""
    if method.config.train.method == "sft":
        return expected["tokens"] * journal.seconds / journal.tokens
    return expected["steps"] * journal.seconds / REHEARSED


def peak_memory() -> int:
    """The most that this process had resident so far, in bytes; on a GPU, that it had there."""
    import resource
    import sys

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
