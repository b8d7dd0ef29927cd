"""From a base model and examples to the files of a tuned model."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.base_models import BaseModel
from stages.core.config import Config, EnergyConfig
from stages.core.energy import measure
from stages.core.estimate import estimate, get_shape
from stages.core.files import read_json, write_json
from stages.core.lineage import config_sha256, data_sha256, git_commit, hardware, versions
from stages.core.models import get_model
from stages.train.arguments import choose_attention, get_adapter, get_arguments

log = logging.getLogger(__name__)
REHEARSED = 2  # steps of a dry run

if TYPE_CHECKING:
    from datasets import Dataset

    from stages.core.tracking import Tracker
    from stages.train.trainer import TokenBudgetTrainer


def get_trainer(
    config: Config,
    base: BaseModel,
    tokenizer: Any,
    train: "Dataset",
    ids: Sequence[str],
    validation: "Dataset",
    tracker: "Tracker",
    folder: str,
) -> "TokenBudgetTrainer":
    """The trainer with the model loaded and the adapter added.

    Args:
        config: all of it.
        base: the base model's files.
        tokenizer: its tokenizer.
        train: the examples to learn.
        ids: of their records.
        validation: the examples to measure by.
        tracker: gets every logged number.
        folder: for what TRL wants to write.
    """
    from transformers import ProgressCallback

    from stages.train.examples import LeftPadding
    from stages.train.progress import Live, OneLine
    from stages.train.trainer import TokenBudgetTrainer

    model = get_model(base, config.model.dtype if config.train.adapter else "float32")
    model.set_attn_implementation(choose_attention(config.train.attention, model, max(train["length"])))
    arguments, adapter = get_arguments(config.train, config.model.dtype, config.seed, folder), get_adapter(config.train)
    trainer = TokenBudgetTrainer(
        model=model,
        args=arguments,
        data_collator=LeftPadding(tokenizer.pad_token_id),
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=adapter,
        micro_batch_tokens=config.train.micro_batch_tokens,
        ids=ids,
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(OneLine())
    trainer.add_callback(Live(tracker))
    return trainer


def expect(config: Config, base: BaseModel, train: "Dataset") -> dict[str, Any]:
    """What `prepare` says before training, said again on the machine that trains."""
    from stages.train.examples import IGNORED

    tokens, trained = sum(train["length"]), sum(label != IGNORED for labels in train["labels"] for label in labels)
    shape = get_shape(config.model, base)
    limit, dtype = config.model.max_length, config.model.dtype
    expected = estimate(config.train, shape, len(train), tokens, trained, limit, dtype)
    log.info(expected["sentence"])
    return expected


def tune(trainer: "TokenBudgetTrainer", expected: dict[str, Any], energy: EnergyConfig) -> dict[str, Any]:
    """Train to the end.

    Args:
        trainer: ready to go.
        expected: seconds and peak memory by `expect`, where it could tell.
        energy: whether electricity is measured.

    Returns:
        The headline numbers: losses (nats a target token), tokens (non-padding), seconds, rate, peak memory (bytes),
        how far the estimate was off, and the electricity where it was measured.
    """
    from peft.helpers import disable_input_dtype_casting

    before = trainer.evaluate()["eval_loss"]
    trainer.evaluation_seconds, started = 0.0, time.perf_counter()
    # Autocast multiplies in bfloat16 whatever the adapter's type; peft's cast to float32 before it is time and memory.
    with measure(energy) as used, disable_input_dtype_casting(trainer.model, active=trainer.args.bf16):
        result = trainer.train()
    seconds = time.perf_counter() - started - trainer.evaluation_seconds
    last = trainer.state.log_history[-3:]  # where the last epoch ended with an evaluation, it need not be done again
    losses = [row["eval_loss"] for row in last if row["step"] == trainer.state.global_step and "eval_loss" in row]
    trained = [p.numel() for p in trainer.model.parameters() if p.requires_grad]
    measured = {"seconds": seconds, "peak_memory_bytes": peak_memory()}
    off = {name: expected[name] / value for name, value in measured.items() if name in expected}
    if off:
        log.info("Expected over measured: %s", ", ".join(f"{name} {ratio:.2f}" for name, ratio in off.items()))
    return {
        "training_loss": result.training_loss,
        "validation_loss_before": before,
        "validation_loss": losses[-1] if losses else trainer.evaluate()["eval_loss"],
        "steps": trainer.state.global_step,
        "tokens": trainer.tokens_trained,
        **measured,
        "expected_over_measured": off,
        "tokens_per_second": trainer.tokens_trained / seconds,
        "trained_parameters": sum(trained),
        **({"energy": {"country": energy.country, **asdict(used)}} if energy.measure else {}),
    }


def rehearse(trainer: "TokenBudgetTrainer", expected: dict[str, Any]) -> None:
    """Two steps, and what all of them would take at this rate. The first is slower than most: it warms caches up.

    Args:
        trainer: ready to go; it is of no use afterwards.
        expected: by `expect`.
    """
    trainer.args.max_steps = REHEARSED
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started - trainer.evaluation_seconds
    rate = trainer.tokens_trained / seconds
    log.info(
        "Dry run: %d steps, %s tokens, %.0f tokens/s, %.1f GB at the peak. All %s steps, %s tokens, would take about "
        "%.1f minutes at that rate. Nothing was written.",
        *(REHEARSED, f"{trainer.tokens_trained:,}", rate, peak_memory() / 1e9),
        *(f"{expected['steps']:,}", f"{expected['tokens']:,}", expected["tokens"] / rate / 60),
    )


def save(
    trainer: "TokenBudgetTrainer", tokenizer: Any, config: Config, base: BaseModel, numbers: Any, to: Path
) -> None:
    """Write weights as safetensors, tokenizer with chat template, and `training.json` into the folder `to`."""
    trainer.model.save_pretrained(to)
    adapter = to / "adapter_config.json"
    if adapter.exists():  # it names the folder where this machine keeps the base model
        write_json(adapter, read_json(adapter) | {"base_model_name_or_path": config.model.name})
    tokenizer.save_pretrained(to)
    (to / "README.md").unlink(missing_ok=True)  # peft's empty model card; `register` writes one with content
    facts = {
        "numbers": numbers,
        "base_model": {"name": config.model.name, "sha256": base.sha256, "revision": base.revision},
        "data_sha256": data_sha256(),
        "config_sha256": config_sha256(config),
        "seed": config.seed,
        "git_commit": git_commit(),
        "versions": versions(),
        "hardware": hardware(),
    }
    write_json(to / "training.json", facts)


def peak_memory() -> int:
    """The most that this process had resident so far, in bytes."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def loss_curve(trainer: "TokenBudgetTrainer") -> list[dict[str, Any]]:
    """One row a logged step for `dvc plots`: `step`, `split`, `loss`."""
    return [
        {"step": row["step"], "split": split, "loss": row[key]}
        for row in trainer.state.log_history
        for key, split in (("loss", "train"), ("eval_loss", "validation"))
        if key in row
    ]
