"""The trainer, put together from the method, the configuration and the rows."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.config.train import TrainConfig
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.planning.auto import resolve
from stages.core.planning.model_dimensions import get_shape
from stages.train.arguments import choose_attention, compile_layers, get_adapter, get_arguments
from stages.train.monitoring.checkpoints import Checkpoints
from stages.train.monitoring.training_progress import Journal
from stages.train.replay import mix_replay

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from stages.core.tracking.tracker import Tracker
    from stages.train.methods.base import Method


def get_trainer(
    method: "Method",
    records: Sequence[Record],
    validation: Sequence[Record],
    tracker: "Tracker",
    folder: str,
) -> Any:
    """The trainer with the model loaded and the adapter added.

    Args:
        method: the way to train.
        records: to learn.
        validation: to measure by.
        tracker: gets every logged number.
        folder: for checkpoints.
    """
    from transformers import ProgressCallback

    from stages.train.monitoring.progress_line import Live, OneLine
    from stages.train.monitoring.validation import Validation

    config = method.config
    train = method.get_examples(records)
    held_out = method.get_examples(validation)
    train, ids = mix_replay(method, train, [record.id for record in records], Path(folder))
    wanted = (
        Validation(config, method.tokenizer, validation)
        if config.train.best.metric != "loss"
        else None
    )
    given = choose_auto(method, len(train))
    arguments = get_arguments(method, given, folder, wanted.lower_is_better if wanted else True)
    if (
        arguments.n_gpu > 1
    ):  # else transformers would wrap the model in `DataParallel`, which TRL refuses
        log.warning(
            "This machine has %d GPUs; launcher=single uses one of them, launcher=ddp all.",
            arguments.n_gpu,
        )
        arguments._n_gpu = 1
    model = method.get_model()
    model.set_attn_implementation(choose_attention(config.train, model, max(train["length"])))
    journal = Journal(ids)
    common = {"model": model, "args": arguments, "train_dataset": train, "eval_dataset": held_out}
    common |= {
        "processing_class": method.tokenizer,
        "peft_config": get_adapter(config.train, method.task_type),
    }
    try:
        trainer: Any = method.make_trainer(journal, **common)
    except ValueError as error:  # TRL's and peft's own checks of what they are given
        raise UserError(f"train={config.train.method} cannot be trained so: {error}") from error
    if given.get("torch_compile"):
        compile_layers(trainer.model)
    trainer.validation = wanted
    trainer.remove_callback(ProgressCallback)
    prefix = "" if method.seed == config.seed else f"seed_{method.seed}."
    for callback in (
        OneLine(journal),
        Live(tracker, journal, prefix),
        *_get_flow(trainer, config.train),
    ):
        trainer.add_callback(callback)
    return trainer


def choose_auto(method: "Method", rows: int) -> dict[str, Any]:
    """`train.args` with numbers in the place of `auto`; what was chosen, and why, is a fact of the method."""
    shape = get_shape(method.config.model, method.base)
    given, why = resolve(method.config.train, shape.hidden if shape else None, rows)
    method.facts["auto"] = {
        key: {"value": given[key], "why": reason} for key, reason in why.items()
    }
    for key, reason in why.items():
        log.info("train.args.%s: %s (%s)", key, given[key], reason)
    return given


def _get_flow(trainer: Any, train: TrainConfig) -> list[Any]:
    """What decides when a checkpoint is made and when training stops."""
    import torch
    from transformers import EarlyStoppingCallback

    def agree(due: bool) -> bool:
        if trainer.args.world_size == 1:
            return due
        return bool(
            trainer.accelerator.gather(torch.tensor([due], device=trainer.args.device)).any()
        )

    patience = train.best.patience
    return [
        Checkpoints(train.checkpoint_minutes, agree),
        *(
            [EarlyStoppingCallback(patience)]
            if patience and trainer.args.load_best_model_at_end
            else []
        ),
    ]
