"""The contenders of `benchmarks.train`.

This module trains with our trainer and with TRL's. `benchmarks.others` trains with other products.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from typing import Any

from benchmarks.others import (
    WARM_STEPS,
    Task,
    Trained,
    has_gpu,
    train_llama_factory,
    train_unsloth,
)
from stages.core.config.schema import Config
from stages.core.data.prompts import build_prompt
from stages.core.models.loading import get_dtype

# The configuration does not set these for TRL, which has defaults of its own.
TRLS_OWN = (
    "gradient_checkpointing",
    "train_sampling_strategy",
    "torch_compile",
)
UNCHECKED = {"gradient_checkpointing": False}
GROUPED = {**UNCHECKED, "train_sampling_strategy": "group_by_length"}


def train_ours(task: Task, **options: Any) -> Trained:
    """Train with the trainer of `stages.train`."""
    from peft.helpers import disable_input_dtype_casting

    from stages.core.tracking.tracker import Tracker
    from stages.train.build_trainer import get_trainer
    from stages.train.methods import get_method

    tracking = task.config.tracking.model_copy(update={"enabled": False})
    config = with_arguments(task.config.model_copy(update={"tracking": tracking}), **options)

    def make() -> Any:
        tracker = Tracker(config, None)
        return get_trainer(
            get_method(config), task.records, task.records, tracker, str(task.folder)
        )

    def train(trainer: Any) -> None:
        with disable_input_dtype_casting(trainer.model, active=task.is_bfloat16):  # as in `tune`
            trainer.train()

    return measure(make, train)


def train_trl(
    task: Task,
    as_weights: bool = True,
    attention: str | None = None,
    joined: bool = False,
    **options: Any,
) -> Trained:
    """Train with TRL on prompts and completions, so that it too learns only the answers.

    Args:
        task: What to train.
        as_weights: Load the weights in the precision of the matrix products, which is not TRL's
            default.
        attention: An attention implementation instead of the model's default.
        joined: Whether TRL joins rows, which needs an attention for them: flash-attn if it is
            installed, and otherwise that of the stage.
        options: Arguments that override those of the configuration.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from stages.train.trainers.packing import joined_rows
    from stages.train.trainers.varlen_attention import VARLEN

    if joined:
        attention = "flash_attention_2" if find_spec("flash_attn") else VARLEN
    config = task.config
    instruction = task.config.prompt.tuned_system_prompt
    chats = [
        {"prompt": build_prompt(r, instruction), "completion": [r.messages[-1]]}
        for r in task.shuffled
    ]
    taken = {key: value for key, value in config.train.args.items() if key not in TRLS_OWN}
    taken |= {"train_sampling_strategy": "sequential", **options}
    taken |= {
        "report_to": "none",
        "save_strategy": "no",
        "seed": config.seed,
        "use_cpu": not has_gpu(),
    }
    init = {"dtype": get_dtype(config.model.dtype)} if as_weights else {}
    init |= {"attn_implementation": attention} if attention else {}

    def make() -> Any:
        return SFTTrainer(
            model=task.base.path,
            args=SFTConfig(
                output_dir=str(task.folder),
                bf16=task.is_bfloat16,
                **taken,
                model_init_kwargs=dict(init) or None,
            ),
            train_dataset=Dataset.from_list(chats),
            processing_class=task.tokenizer,
            peft_config=LoraConfig(task_type="CAUSAL_LM", **config.train.adapter),  # type: ignore[arg-type]
        )

    def train(trainer: Any) -> None:
        with joined_rows() if joined else nullcontext():
            trainer.train()

    return measure(make, train)


def measure(make: Callable[[], Any], train: Callable[[Any], None]) -> Trained:
    """Train and time the whole run and its first step.

    On a GPU another trainer takes a few steps before, in which kernels are chosen and compiled and
    memory is reserved. A run of a few steps would otherwise measure these.

    Args:
        make: Makes the trainer, with a new model.
        train: Trains with it.
    """
    from transformers import TrainerCallback

    from stages.train.loop import peak_memory

    class Clock(TrainerCallback):
        first = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.first = self.first or time.perf_counter()

    if has_gpu():
        warm_up(make(), train)
    trainer = make()
    clock = Clock()
    started = time.perf_counter()
    trainer.add_callback(clock)
    train(trainer)
    seconds = time.perf_counter() - started
    return Trained(trainer.model, seconds, peak_memory(), {"first step s": clock.first - started})


def warm_up(trainer: Any, train: Callable[[Any], None]) -> None:
    """Train for a few steps and forget their peak memory."""
    import torch

    trainer.args.max_steps = WARM_STEPS
    train(trainer)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()


def with_arguments(config: Config, **changed: Any) -> Config:
    """Return the configuration with some `train.args` changed."""
    train = config.train.model_copy(update={"args": {**config.train.args, **changed}})
    return config.model_copy(update={"train": train})


OURS = "this stage"
UNSLOTH = "Unsloth"
PARTS = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
THEIR_UNCHECKED = {"disable_gradient_checkpointing": True}  # LLaMA-Factory's name for it
THEIR_GROUPED = {
    **THEIR_UNCHECKED,
    "train_sampling_strategy": "group_by_length",
    "disable_shuffling": False,
}
EAGER = {"flash_attn": "disabled"}
CONTENDERS: dict[str, Callable[[Task], Trained]] = {
    OURS: train_ours,
    "TRL, its defaults": partial(train_trl, as_weights=False),
    "TRL, its best, 4 x 4 rows": partial(train_trl, **UNCHECKED, **PARTS),
    "TRL, its best, 4 x 4 rows, eager": partial(train_trl, **UNCHECKED, **PARTS, attention="eager"),
    "TRL, its best, 16 rows by length": partial(train_trl, **GROUPED),
    "TRL, its best, 4 x 4 rows by length": partial(train_trl, **GROUPED, **PARTS),
    "TRL, its best, 4 x 4 rows by length, eager": partial(
        train_trl, **GROUPED, **PARTS, attention="eager"
    ),
    "TRL joined, padding-free": partial(
        train_trl, **UNCHECKED, joined=True, padding_free=True, max_length=None
    ),
    "TRL joined, packed": partial(
        train_trl, **UNCHECKED, joined=True, packing=True, per_device_train_batch_size=1
    ),
    "this stage, rows by length": partial(train_ours, train_sampling_strategy="group_by_length"),
    "this stage, gradient_checkpointing": partial(train_ours, gradient_checkpointing=True),
    "this stage, torch_compile": partial(train_ours, torch_compile=True),
    "LLaMA-Factory, its defaults": partial(train_llama_factory, as_products=False),
    "LLaMA-Factory, 4 x 4 rows, eager": partial(
        train_llama_factory, **THEIR_UNCHECKED, **PARTS, **EAGER
    ),
    "LLaMA-Factory, 4 x 4 rows by length, eager": partial(
        train_llama_factory, **THEIR_GROUPED, **PARTS, **EAGER
    ),
    UNSLOTH: train_unsloth,
}
TRL, JOINED, OPTIONS, LLAMA_FACTORY = (
    [name for name in CONTENDERS if name.startswith(f"{product},")]
    for product in ("TRL", "TRL joined", OURS, "LLaMA-Factory")
)
