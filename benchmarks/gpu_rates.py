"""Measure the rate of one way to train, after warm-up, for `benchmarks.gpu_check`.

    python -m benchmarks.gpu_rates CASE    # the JSON of a case; prints the JSON of what was found

Each case is a process of its own, so that one which runs out of memory ends alone. All cases of a
model and a kind of rows train on the same rows with optimizer steps of the same number of tokens.
"""

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.gpu_shapes import LENGTHS, SHAPES, TOY_LENGTHS, TOYS, Shape, make_model, make_rows

STEP_TOKENS = 65_536
TOY_STEP_TOKENS = 96
WARM_STEPS = 2  # in which kernels are chosen, compiled and given their memory
STEPS = 8  # that are measured, unless they take too long
TOY_STEPS = 1
SECONDS = 15.0  # after which no further step begins


@dataclass(frozen=True, slots=True)
class Case:
    """One way to train one model on one kind of rows."""

    contender: str
    shape: str
    rows: str
    """`short` or `long`."""
    attention: str = "varlen"
    tokens: int | None = None
    """The most tokens of a pass. None is what `train.micro_batch_tokens=auto` chooses."""
    rival: str | None = None
    """`padded`, `packed` or `padding_free` for TRL's own trainer, or `unsloth`. None is ours."""
    liger: bool = False
    compiled: bool = False
    checkpointing: bool = False

    @property
    def toy(self) -> bool:
        """Whether this is a rehearsal."""
        return self.shape.startswith("toy")

    @property
    def steps(self) -> int:
        """How many optimizer steps are trained."""
        return WARM_STEPS + (TOY_STEPS if self.toy else STEPS)


def main() -> None:
    """Measure the case on the command line."""
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])))))  # noqa: T201


def measure(case: Case) -> dict[str, Any]:
    """Train until the rate is known.

    Returns:
        `tokens/s` without padding, `peak GB`, `tokens a pass`, `loss` of the last step.
    """
    shape = next(shape for shape in SHAPES + TOYS if shape.name == case.shape)
    budget = TOY_STEP_TOKENS if case.toy else STEP_TOKENS
    mean = (TOY_LENGTHS if case.toy else LENGTHS)[case.rows]
    rows = make_rows(mean, budget * (case.steps + 1), shape.vocabulary)
    batch = max(1, budget // mean)
    with tempfile.TemporaryDirectory() as folder:
        if case.rival == "unsloth":
            from benchmarks.gpu_unsloth import measure_unsloth

            return measure_unsloth(case, shape, rows, batch, folder)
        if case.rival:
            from benchmarks.gpu_trl import make_trl

            trainer = make_trl(case, shape, rows, batch, folder)
            tokens = batch * mean if case.rival == "packed" else None
        else:
            trainer, tokens = make_ours(case, shape, rows, batch, folder)
        seconds, seen = run(trainer)
    from stages.train.loop import peak_memory

    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        "tokens/s": seen / seconds,
        "peak GB": peak_memory() / 1e9,
        "tokens a pass": tokens,
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
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "gradient_checkpointing": case.checkpointing,
        "use_liger_kernel": case.liger,
        **others,
    }


def load(shape: Shape, attention: str) -> Any:
    """Make the model as the stage trains it: float32 weights without an adapter, bfloat16 with one."""
    import torch

    from stages.core.models.loading import get_device
    from stages.train.trainers import row_attention, varlen_attention  # noqa: F401  (they register)

    model = make_model(shape, torch.bfloat16 if shape.rank else torch.float32, get_device())
    model.set_attn_implementation(attention)
    return model


def get_adapter(shape: Shape) -> Any:
    """Return the adapters of a shape, on every linear layer, or None."""
    from peft import LoraConfig

    if shape.rank is None:
        return None
    return LoraConfig(
        task_type="CAUSAL_LM", r=shape.rank, lora_alpha=32, target_modules="all-linear"
    )


def get_base() -> Any:
    """Return the files of a tiny random model."""
    from stages.core.config.model import RandomSource
    from stages.core.config.schema import read_params
    from stages.core.models.base_models import get_base_model

    source = RandomSource(kind="random", hidden_size=32, layers=2, heads=2)
    config = read_params().model.model_copy(update={"name": "tiny", "source": source})
    return get_base_model(config, 42)


def get_tokenizer() -> Any:
    """Return a tokenizer, which the trainers need for its padding token alone."""
    from stages.core.models import loading

    return loading.get_tokenizer(get_base())


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
    model = load(shape, case.attention)
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

    adapter = {"r": shape.rank} if shape.rank else None
    args = {"gradient_checkpointing": case.checkpointing}
    train = read_params().train.model_copy(
        update={"adapter": adapter, "args": args, "attention": case.attention}
    )
    return choose_tokens(train, shape.dimensions, get_free_bytes(), 1)[0]


class Clock:
    """A mixin for a trainer that notes the time and the tokens of each pass over a batch."""

    def __init__(self, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        self.times: list[float] = []
        self.tokens: list[int] = []

    def training_step(self, model: Any, inputs: Any, *others: Any) -> Any:
        """Run the step and wait until the GPU has finished it."""
        import torch

        mask = inputs.get("attention_mask")
        tokens = int(inputs["input_ids"].numel() if mask is None else mask.sum())
        loss = super().training_step(model, inputs, *others)  # type: ignore[misc]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        self.tokens.append(tokens)
        return loss


def run(trainer: Any) -> tuple[float, int]:
    """Train, and return the seconds and the tokens of the measured steps."""
    from transformers import PrinterCallback, TrainerCallback

    from stages.train.trainers.packing import joined_rows

    class Limit(TrainerCallback):
        warm = 0  # passes until the end of the warm-up

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == WARM_STEPS:
                self.warm = len(trainer.times)
            elif self.warm and time.perf_counter() - trainer.times[self.warm - 1] > SECONDS:
                control.should_training_stop = True

    limit = Limit()
    trainer.add_callback(limit)
    trainer.remove_callback(PrinterCallback)
    if getattr(trainer, "padding_free", False):
        with joined_rows():  # otherwise transformers would make a mask of all tokens by all tokens
            trainer.train()
    else:
        trainer.train()
    seconds = trainer.times[-1] - trainer.times[limit.warm - 1]
    return seconds, sum(trainer.tokens[limit.warm :])


def to_json(case: Case) -> str:
    """Return the argument of the process that measures a case."""
    return json.dumps(asdict(case))


if __name__ == "__main__":
    main()
