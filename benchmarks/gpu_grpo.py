"""GRPO on random prompts for `benchmarks.gpu_rates`, with plain answers and continuous batching.

The rewards are the number of different tokens, because the rate does not depend on what they are.
"""

import random
import time
from string import ascii_lowercase
from typing import Any

from benchmarks.gpu_cases import Case
from benchmarks.gpu_models import get_adapter, get_tokenizer, load
from benchmarks.gpu_rates import describe, make_arguments
from benchmarks.gpu_shapes import Shape

ANSWERS = 8  # to each prompt
PASSES = 4  # of a step
ROWS = 16  # answers of a pass
ANSWER_TOKENS = 256
TOY_ANSWER_TOKENS = 4
WARM_STEPS = 1
STEPS = 2  # that are measured


def measure_grpo(case: Case, shape: Shape, length: int, folder: str) -> dict[str, Any]:
    """Train for a few steps.

    Args:
        case: The case.
        shape: The shape of the model.
        length: The tokens of a prompt.
        folder: An empty folder.

    Returns:
        What `gpu_rates.measure` returns. The tokens are those of the prompts and the answers.
    """
    import torch
    from transformers import PrinterCallback, TrainerCallback

    ends: list[tuple[float, int]] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append((time.perf_counter(), trainer.progress.tokens))

    trainer = make_trainer(case, shape, length, folder)
    trainer.add_callback(Clock())
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    started, before = ends[WARM_STEPS - 1]
    ended, after = ends[-1]
    return describe(trainer, ended - started, after - before) | {"tokens a pass": None}


def make_trainer(case: Case, shape: Shape, length: int, folder: str) -> Any:
    """Make the trainer of the stage for prompts of random letters."""
    from datasets import Dataset
    from trl import GRPOConfig

    from stages.train.methods.grpo import GrpoTrainer
    from stages.train.monitoring.training_progress import TrainingProgress

    draw = random.Random(42)
    prompts = ["".join(draw.choices(ascii_lowercase, k=length)) for _ in range(ROWS * PASSES)]
    rows = [{"row": row, "prompt": prompt, "length": length} for row, prompt in enumerate(prompts)]
    arguments = make_arguments(
        case,
        folder,
        max_steps=WARM_STEPS + (1 if case.toy else STEPS),
        num_generations=2 if case.toy else ANSWERS,
        max_completion_length=TOY_ANSWER_TOKENS if case.toy else ANSWER_TOKENS,
        per_device_train_batch_size=2 if case.toy else ROWS,
        gradient_accumulation_steps=1 if case.toy else PASSES,
        use_transformers_continuous_batching=case.continuous,
        beta=0.04,
    )
    return GrpoTrainer(
        reward_funcs=count_different_tokens,
        progress=TrainingProgress([str(row["row"]) for row in rows]),
        model=load(case, shape),
        args=GRPOConfig(**arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=get_tokenizer(),
        peft_config=get_adapter(shape),
    )


def count_different_tokens(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Return the rewards of answers."""
    return [float(len(set(ids))) for ids in completion_ids]
