"""Measure the rate of one way to train, after warm-up, for `benchmarks.gpu_check`.

    python -m benchmarks.gpu_rates CASE    # the JSON of a case; prints the JSON of what was found

Each case is a process of its own, so that one which runs out of memory ends alone. All cases of a
model and a kind of rows train on the same rows with optimizer steps of the same number of tokens.
"""

import json
import sys
import tempfile
from typing import Any

from benchmarks.gpu_cases import Case
from benchmarks.gpu_clock import Clock, run
from benchmarks.gpu_models import get_adapter, get_tokenizer, load
from benchmarks.gpu_shapes import LENGTHS, TOY_LENGTHS, Shape, get_shape, make_rows

STEP_TOKENS = 65_536
TOY_STEP_TOKENS = 96
LEAN_OPTIMIZER = "adamw_bnb_8bit"


def main() -> None:
    """Measure the case on the command line."""
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])))))  # noqa: T201


def measure(case: Case) -> dict[str, Any]:
    """Train until the rate is known.

    Returns:
        `tokens/s` without padding, `peak GB`, `tokens a pass`, `loss` of the last step. Or
        `waits`, the number of times a step waits for the GPU, by line.
    """
    shape = get_shape(case.shape)
    budget = TOY_STEP_TOKENS if case.toy else STEP_TOKENS
    mean = (TOY_LENGTHS if case.toy else LENGTHS)[case.rows]
    with tempfile.TemporaryDirectory() as folder:
        if case.grpo:
            from benchmarks.gpu_grpo import measure_grpo

            return measure_grpo(case, shape, mean, folder)
        rows = make_rows(mean, budget * (case.steps + 1), shape.vocabulary)
        batch = max(1, budget // mean)
        if case.rival == "unsloth":
            from benchmarks.gpu_unsloth import measure_unsloth

            return measure_unsloth(case, shape, rows, batch, folder)
        if case.rival:
            from benchmarks.gpu_trl import make_trl

            trainer = make_trl(case, shape, rows, batch, folder)
            tokens = batch * mean if case.rival == "packed" else None
        else:
            trainer, tokens = make_ours(case, shape, rows, batch, folder)
        if case.profile:
            from benchmarks.gpu_waits import count_waits

            return {"waits": count_waits(trainer)}
        seconds, seen = run(trainer)
    return describe(trainer, seconds, seen) | {"tokens a pass": tokens}


def describe(trainer: Any, seconds: float, tokens: int) -> dict[str, Any]:
    """Return the rate, the peak memory and the last loss of a trainer."""
    from stages.train.loop import peak_memory

    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        "tokens/s": tokens / seconds,
        "peak GB": peak_memory() / 1e9,
        "loss": losses[-1] if losses else None,
    }


def make_arguments(case: Case, folder: str, **others: Any) -> dict[str, Any]:
    """Return the arguments that all trainers share."""
    import torch

    return {
        "output_dir": folder,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "max_steps": case.steps,
        "learning_rate": 1e-5,
        "bf16": not case.float16,
        "fp16": case.float16 and torch.cuda.is_available(),  # the library refuses it on a CPU
        "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "gradient_checkpointing": case.checkpointing,
        "use_liger_kernel": case.liger,
        **({"optim": LEAN_OPTIMIZER} if get_shape(case.shape).lean else {}),
        **others,
    }


def make_ours(
    case: Case, shape: Shape, rows: list[dict[str, Any]], batch: int, folder: str
) -> tuple[Any, int]:
    """Make the trainer of the stage, and return the tokens of a pass too."""
    from datasets import Dataset
    from trl import SFTConfig

    from stages.train.arguments import compile_layers
    from stages.train.examples import LeftPadding
    from stages.train.monitoring.training_progress import TrainingProgress
    from stages.train.trainers.sft import AnswersTrainer

    class Timed(Clock, AnswersTrainer):
        pass

    tokenizer = get_tokenizer()
    model = load(case, shape)
    tokens = case.tokens or choose(case, shape)
    trainer = Timed(
        progress=TrainingProgress([str(row["row"]) for row in rows]),
        micro_batch_tokens=tokens,
        data_collator=LeftPadding(tokenizer.pad_token_id),
        model=model,
        args=SFTConfig(
            **make_arguments(case, folder, per_device_train_batch_size=batch),
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=get_adapter(shape),
    )
    if case.compiled:
        compile_layers(trainer.model)
    return trainer, tokens


def choose(case: Case, shape: Shape) -> int:
    """Return what `train.micro_batch_tokens=auto` would choose for this model and this GPU."""
    from stages.core.config.schema import read_params
    from stages.core.planning.gpu_memory import choose_tokens
    from stages.train.trainers.micro_batches import get_free_bytes

    changed = {
        "adapter": {"r": shape.rank} if shape.rank else None,
        "args": {"gradient_checkpointing": case.checkpointing},
        "attention": case.attention,
        "quantization": {"load_in_4bit": True} if shape.quantized else None,
        "trained_dtype": "bfloat16" if shape.lean else "float32",
    }
    train = read_params().train.model_copy(update=changed)
    return choose_tokens(train, shape.dimensions, get_free_bytes(), 1)[0]


if __name__ == "__main__":
    main()
