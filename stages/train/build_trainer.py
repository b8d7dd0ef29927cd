"""Build the trainer from the method, the configuration and the rows."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.config.train import TrainConfig
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.planning.auto import resolve
from stages.core.planning.model_dimensions import get_model_dimensions
from stages.train.adapter import (
    check_mergeable,
    copy_initial,
    get_adapter,
    target_experts,
    train_in_float32,
)
from stages.train.arguments import choose_attention, compile_layers, get_arguments
from stages.train.init_adapter import load_init_adapter
from stages.train.initial_values import initialize_from_rows
from stages.train.layers_from_rows import read_rows_for_layers
from stages.train.monitoring.checkpoints import Checkpoints, latest_checkpoint
from stages.train.monitoring.training_progress import TrainingProgress
from stages.train.replay import mix_replay
from stages.train.stored_examples import read_numbers
from stages.train.unread_weights import leave_out_unread

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from datasets import Dataset

    from stages.core.tracking.tracker import Tracker
    from stages.train.methods.base import Method


def get_trainer(
    method: "Method",
    records: Sequence[Record],
    validation: Sequence[Record],
    tracker: "Tracker",
    folder: str,
) -> Any:
    """Build the trainer, load the model and add the adapter.

    Args:
        method: The training method.
        records: The training records.
        validation: The validation records.
        tracker: The tracker that receives every logged number.
        folder: The folder for checkpoints.

    Raises:
        UserError: If a library rejects the configuration.
    """
    from stages.train.monitoring.validation import Validation
    from stages.train.trainers.kernels import take_kernels
    from stages.train.trainers.served_settings import keep_settings

    config = method.config
    train, held_out, ids = _get_examples(method, records, validation, Path(folder))
    wanted = (
        Validation(config, method.tokenizer, validation)
        if config.train.best.metric != "loss"
        else None
    )
    given, kernels = take_kernels(choose_auto(method, len(train)))
    arguments = get_arguments(method, given, folder, wanted.lower_is_better if wanted else True)
    _use_one_gpu(arguments)
    model = method.get_model()
    restore_settings = keep_settings(model)
    _prepare_layers(method, model, int(read_numbers(train, "length").max()), kernels)
    adapter = _get_adapter(method, model)
    read_rows_for_layers(adapter, method, model, train, arguments.device)
    trainer = _make_trainer(
        method,
        TrainingProgress(ids),
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=held_out,
        peft_config=adapter,
    )
    _prepare_weights(trainer, method, Path(folder))
    if given.get("torch_compile"):
        compile_layers(trainer.model)
    trainer.restore_settings = restore_settings
    trainer.validation = wanted
    trainer.own_optimizer = config.train.optimizer
    _replace_callbacks(trainer, method, tracker)
    return trainer


def choose_auto(method: "Method", rows: int) -> dict[str, Any]:
    """Replace `auto` in `train.args` by numbers.

    The chosen values and the reasons for them go into `method.metadata["auto"]` and into the log.

    Returns:
        The arguments without `auto`.
    """
    dimensions = get_model_dimensions(method.config.model, method.base)
    given, why = resolve(method.config.train, dimensions.hidden if dimensions else None, rows)
    method.metadata["auto"] = {
        key: {"value": given[key], "why": reason} for key, reason in why.items()
    }
    for key, reason in why.items():
        log.info("train.args.%s: %s (%s)", key, given[key], reason)
    return given


def _get_examples(
    method: "Method", records: Sequence[Record], validation: Sequence[Record], folder: Path
) -> tuple["Dataset", "Dataset", list[str]]:
    """Return the examples of training and validation, and the ids of what training learns from."""
    learned = method.get_records(records, folder)
    # Each process has files of its own, because processes need not share a fast disk.
    rank = os.environ.get("RANK", "0")
    train = method.get_examples(learned, folder / f"train-{rank}.arrow")
    held_out = method.get_examples(validation, folder / f"validation-{rank}.arrow")
    mixed, ids = mix_replay(method, train, learned, folder)
    return mixed, held_out, ids


def _use_one_gpu(arguments: Any) -> None:
    """Use one GPU in a process, where transformers would use `DataParallel`, which TRL rejects."""
    if arguments.n_gpu > 1:
        log.warning(
            "This machine has %d GPUs, but train/launcher=single uses only one. "
            "Set train/launcher=ddp to use all of them.",
            arguments.n_gpu,
        )
        arguments._n_gpu = 1


def _get_adapter(method: "Method", model: Any) -> Any:
    """Return the arguments of the adapter that fit the model; None trains every weight."""
    train = method.config.train
    adapter = get_adapter(train, method.task_type)
    leave_out_unread(model, adapter)
    if adapter and train.adapter is not None:
        target_experts(adapter, train.adapter, model)
    return adapter


def _make_trainer(method: "Method", progress: TrainingProgress, **arguments: Any) -> Any:
    """Make the method's trainer.

    Raises:
        UserError: TRL or peft rejects the configuration.
    """
    try:
        return method.make_trainer(progress, processing_class=method.tokenizer, **arguments)
    # TRL and peft check their own arguments.
    except ValueError as error:
        raise UserError(
            f"train.method={method.config.train.method}: TRL or peft rejects this configuration: "
            f"{error}"
        ) from error


def _prepare_weights(trainer: Any, method: "Method", folder: Path) -> None:
    """Set the types and the first values of the trained weights.

    Args:
        trainer: The trainer, whose model has its adapter.
        method: The training method.
        folder: The folder of the checkpoints.
    """
    from stages.train.trainers.sharding import reduce_in_float32

    train = method.config.train
    initialize_from_rows(trainer, method, latest_checkpoint(folder))
    # DeepSpeed needs adapters of the type of the frozen weights, and keeps float32 copies itself.
    if not trainer.is_deepspeed_enabled and train.trained_dtype == "float32":
        train_in_float32(trainer.model)
    load_init_adapter(trainer, method)
    check_mergeable(trainer.model)
    trainer.initial_adapter = copy_initial(train.adapter, trainer.model)
    reduce_in_float32(trainer.accelerator)


def _prepare_layers(method: "Method", model: Any, longest: int, kernels: bool) -> None:
    """Choose the attention for rows of up to `longest` tokens, and use kernels of the hub.

    Raises:
        UserError: The model does not have the attention, or the kernels cannot be used.
    """
    from stages.train.trainers.kernels import use_hub_kernels

    config = method.config
    attention = choose_attention(config.train, model, longest, config.model.dtype)
    try:
        model.set_attn_implementation(attention)
    except ValueError as error:
        raise UserError(f"train.attention={attention}: {error}") from None
    if kernels:
        use_hub_kernels(model)


def _replace_callbacks(trainer: Any, method: "Method", tracker: "Tracker") -> None:
    """Show one line of progress, log every number, and save and stop as configured."""
    from transformers import ProgressCallback

    from stages.train.monitoring.progress_line import MetricsCallback, ProgressLine

    trainer.remove_callback(ProgressCallback)
    progress = trainer.progress
    prefix = "" if method.seed == method.config.seed else f"seed_{method.seed}."
    trainer.add_callback(ProgressLine(progress))
    trainer.add_callback(MetricsCallback(tracker, progress, prefix))
    for callback in _get_flow(trainer, method.config.train):
        trainer.add_callback(callback)


def _get_flow(trainer: Any, train: TrainConfig) -> list[Any]:
    """Return the callbacks that decide when to save a checkpoint and when to stop training."""
    import torch
    from transformers import EarlyStoppingCallback

    def any_process(due: bool) -> bool:
        if trainer.args.world_size == 1:
            return due
        return bool(
            trainer.accelerator.gather(torch.tensor([due], device=trainer.args.device)).any()
        )

    patience = train.best.patience
    return [
        Checkpoints(train.checkpoint_minutes, any_process),
        *(
            [EarlyStoppingCallback(patience)]
            if patience and trainer.args.load_best_model_at_end
            else []
        ),
    ]
