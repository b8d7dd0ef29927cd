"""Write the files of a tuned model."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.environment.lineage import config_sha256, data_sha256, hardware, versions
from stages.core.environment.repository import git_commit
from stages.core.storage.files import read_json, write_json
from stages.train.adapter import make_plain
from stages.train.determinism import describe_determinism
from stages.train.reload_check import check_reloaded, measure

if TYPE_CHECKING:
    from stages.train.methods.base import Method


UNORDERED = ("target_modules", "exclude_modules", "feedforward_modules")
"""The lists of an adapter's configuration that peft writes in another order in every process."""
MEASURED = ("seconds", "peak_memory_bytes", "estimate_ratio", "tokens_per_second", "energy")
"""The headline numbers that differ from run to run even if the weights are the same."""


def save(
    trainer: Any, method: "Method", numbers: dict[str, Any], key: str, to: Path, measured: Path
) -> None:
    """Write the weights (safetensors), the tokenizer with its chat template and `training.json`.

    Every process must call this function, because all of them take part in saving the weights. Only
    the first process writes files.

    Args:
        trainer: The trainer after training.
        method: The training method.
        numbers: The headline numbers.
        key: The fingerprint of everything that the weights depend on.
        to: The folder to write to.
        measured: The file for the measured numbers (`MEASURED`) and the commit.

    Raises:
        UserError: The model in the files is not the one that was trained.
    """
    trained = measure(trainer, method, trainer.model)
    trainer.restore_settings()
    trainer.save_model(str(to))
    if not trainer.is_world_process_zero():
        return
    config = method.config
    base = method.base
    adapter = to / "adapter_config.json"
    if adapter.exists():
        write_json(adapter, _get_stable(read_json(adapter), method.name))
    method.tokenizer.save_pretrained(to)
    # This file is a pickle, and loading a pickle runs code.
    (to / "training_args.bin").unlink(missing_ok=True)
    make_plain(to, trainer.initial_adapter)
    method.finish(to)
    attention = getattr(trainer.model.config, "_attn_implementation", None)
    reloaded = check_reloaded(trainer, method, trained, to)
    if method.replay:
        shutil.copy(method.replay, to)
    facts = {
        "key": key,
        "method": config.train.method,
        "numbers": {name: value for name, value in numbers.items() if name not in MEASURED},
        "base_model": {
            "name": method.name,
            "sha256": base.sha256,
            "revision": base.revision,
            "quantization": base.quantization,
        },
        "data_sha256": data_sha256(),
        "config_sha256": config_sha256(config),
        "seed": method.seed,
        "versions": versions(),
        "hardware": hardware(),
        "determinism": describe_determinism(attention),
        "loss_after_reloading": reloaded,
        **method.metadata,
    }
    replay = facts.get("replay") or {}
    history = {"resumed_at_steps": trainer.progress.resumed_at, "git_commit": git_commit()}
    history |= {"replay_writing_seconds": replay.pop("writing_seconds", 0.0)}
    write_json(to / "training.json", facts)
    taken = {name: value for name, value in numbers.items() if name in MEASURED}
    write_json(measured, {"numbers": taken, **history})


def _get_stable(adapter: dict[str, Any], base: str) -> dict[str, Any]:
    """Make the configuration of an adapter the same on every machine and in every process.

    peft writes the local folder of the base model, and it keeps names of modules in a set, whose
    order differs from process to process.
    """
    lists = {key: sorted(adapter[key]) for key in UNORDERED if isinstance(adapter.get(key), list)}
    return adapter | lists | {"base_model_name_or_path": base}


def loss_curve(trainer: Any) -> list[dict[str, Any]]:
    """Return one row (`step`, `split`, `loss`) per logged loss for `dvc plots`."""
    return [
        {"step": row["step"], "split": split, "loss": row[key]}
        for row in trainer.state.log_history
        for key, split in (("loss", "train"), ("eval_loss", "validation"))
        if key in row
    ]
