"""The files of a tuned model."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.environment.lineage import config_sha256, data_sha256, hardware, versions
from stages.core.environment.repository import git_commit
from stages.core.storage.files import read_json, write_json
from stages.train.determinism import describe

if TYPE_CHECKING:
    from stages.train.methods.base import Method


MEASURED = ("seconds", "peak_memory_bytes", "expected_over_measured", "tokens_per_second", "energy")
"""Of the headline numbers those that differ from run to run, although the weights are the same."""


def save(
    trainer: Any, method: "Method", numbers: dict[str, Any], key: str, to: Path, measured: Path
) -> None:
    """Write weights as safetensors, tokenizer with chat template, and `training.json` into the folder `to`.

    Args:
        trainer: after training; every process calls this, the first one writes.
        method: the way it was trained.
        numbers: the headline numbers.
        key: of everything on which the weights hang.
        to: the folder.
        measured: the file for what training took, and from which commit.
    """
    trainer.save_model(str(to))
    if not trainer.is_world_process_zero():
        return
    config = method.config
    base = method.base
    adapter = to / "adapter_config.json"
    if adapter.exists():  # it names the folder where this machine keeps the base model
        write_json(adapter, read_json(adapter) | {"base_model_name_or_path": method.name})
    method.tokenizer.save_pretrained(to)
    (to / "training_args.bin").unlink(missing_ok=True)  # a pickle: loading one runs code
    method.finish(to)
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
        "determinism": describe(getattr(trainer.model.config, "_attn_implementation", None)),
        **method.facts,
    }
    replay = facts.get("replay") or {}
    history = {"resumed_at_steps": trainer.journal.resumed_at, "git_commit": git_commit()}
    history |= {"replay_writing_seconds": replay.pop("writing_seconds", 0.0)}
    write_json(to / "training.json", facts)
    taken = {name: value for name, value in numbers.items() if name in MEASURED}
    write_json(measured, {"numbers": taken, **history})


def loss_curve(trainer: Any) -> list[dict[str, Any]]:
    """One row a logged step for `dvc plots`: `step`, `split`, `loss`."""
    return [
        {"step": row["step"], "split": split, "loss": row[key]}
        for row in trainer.state.log_history
        for key, split in (("loss", "train"), ("eval_loss", "validation"))
        if key in row
    ]
