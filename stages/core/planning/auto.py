"""What `auto` means among the arguments of training, and how many steps they make.

- `num_train_epochs`: OpenAI's rule ("Data preparation and analysis for chat model fine-tuning", OpenAI cookbook): 3;
  more where all epochs together would show fewer than 100 rows, fewer where they would show more than 25,000.
- `per_device_train_batch_size`: the largest power of two between 4 and 64 rows an optimizer step that leaves at least
  40 steps an epoch, divided by the processes and by `gradient_accumulation_steps`. A rule of our own: a handful of
  steps learns little, and large batches cost adapters more than full training (Schulman et al., "LoRA Without Regret",
  Thinking Machines Lab, 2025). A batch of GRPO is counted in answers and holds all those to a question.
- `learning_rate`: 5e-5 x (2000 / width of the model)^0.781, with adapters ten times that. The rule was fitted to models
  of the Llama family in the same study and is in its authors' cookbook (`tinker_cookbook/hyperparam_utils.py`); other
  families have another power (Qwen 0.0775), so take it as a place to start from. A fiftieth for methods that correct a
  model which answers already: TRL's documentation gives 1e-6, and 1e-5 with adapters. Heads of labels: 5e-5 (Devlin
  et al., "BERT", 2019, appendix A.3), with adapters ten times that.
"""

import math
from typing import Any

from stages.core.config.train import CLASSIFYING, Accelerate, Slurm, TrainConfig
from stages.core.errors import UserError

AUTO = "auto"
TARGET_EPOCHS = 3
MIN_EPOCHS = 1
MAX_EPOCHS = 25
MIN_EXAMPLES = 100
MAX_EXAMPLES = 25_000
BATCHES = (64, 32, 16, 8, 4)
STEPS = 40
FULL_RATE = 5e-5
ADAPTER_GAIN = 10
WIDTH = 2000
POWER = 0.781
CORRECTING = ("dpo", "orpo", "kto", "grpo")
CORRECTION = 50


def resolve(
    train: TrainConfig, hidden: int | None, rows: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """`train.args` with numbers for `auto`. Elsewhere than in these three arguments `auto` stays what it is.

    Args:
        train: method, adapter, launcher, arguments.
        hidden: the model's width; None where its configuration does not tell.
        rows: of the training split.

    Returns:
        The arguments, and for each replaced one a sentence that says how its value came about.

    Raises:
        UserError: an argument that the rules count with is no number.
    """
    rules = {
        "num_train_epochs": lambda: _epochs(rows),
        "per_device_train_batch_size": lambda: _batch_size(train, rows),
        "learning_rate": lambda: _learning_rate(train, hidden),
    }
    args = dict(train.args)
    reasons = {}
    for key, rule in rules.items():
        if args.get(key) == AUTO:
            args[key], reasons[key] = rule()
    return args, reasons


def processes(train: TrainConfig) -> int:
    """That train together. Machines that flags of `accelerate launch` add are not counted."""
    launcher = train.launcher
    if isinstance(launcher, Slurm):
        return launcher.nodes * launcher.processes
    return launcher.processes if isinstance(launcher, Accelerate) else 1


def count_replay_rows(train: TrainConfig, rows: int) -> int:
    """Replay rows of an epoch, so that they are `train.replay.share` of all rows.

    Args:
        train: with the share.
        rows: of the task.
    """
    share = train.replay.share
    return round(rows * share / (1 - share))


def steps_per_epoch(train: TrainConfig, args: dict[str, Any], rows: int) -> int:
    """Optimizer steps in which all rows are seen once, as transformers' and TRL's trainers count them.

    Args:
        train: method and launcher.
        args: of `resolve`.
        rows: to learn from.
    """
    batch = number(args, "per_device_train_batch_size", 8) * _parts(train, args)
    if train.method == "grpo":  # an incomplete batch at the end is left out
        steps = rows * _answers(train, args) * number(args, "num_iterations", 1) // batch
    else:
        steps = math.ceil(rows / batch)
    return max(1, int(steps))


def number(args: dict[str, Any], key: str, default: float) -> float:
    """An argument that must be a number.

    Raises:
        UserError: it is none.
    """
    value = args.get(key)
    if isinstance(value, str | bool | list | dict):
        raise UserError(
            f"train.args.{key} is {value!r}, expected a number; give one, or remove it for {default}"
        )
    return default if value is None else value


def cookbook_epochs(rows: int) -> int:
    """The epochs that OpenAI chooses by default for so many rows."""
    if rows * TARGET_EPOCHS < MIN_EXAMPLES:
        return min(MAX_EPOCHS, MIN_EXAMPLES // max(rows, 1))
    if rows * TARGET_EPOCHS > MAX_EXAMPLES:
        return max(MIN_EPOCHS, MAX_EXAMPLES // rows)
    return TARGET_EPOCHS


def _epochs(rows: int) -> tuple[int, str]:
    return cookbook_epochs(rows), f"OpenAI's rule for {rows:,} rows"


def _batch_size(train: TrainConfig, rows: int) -> tuple[int, str]:
    answers = _answers(train, train.args)
    parts = _parts(train, train.args)
    batch = next((b for b in BATCHES if math.ceil(rows * answers / b) >= STEPS), BATCHES[-1])
    unit = answers // math.gcd(
        answers, parts
    )  # with this many on each device all answers to a question are together
    size = max(unit, batch // parts // unit * unit)
    what = f"{rows:,} rows, {answers} answers to each" if answers > 1 else f"{rows:,} rows"
    split = f", in {parts} parts by processes and gradient_accumulation_steps" if parts > 1 else ""
    steps = math.ceil(rows * answers / (size * parts))
    return size, f"{size * parts} a step{split} make {steps:,} steps an epoch of {what}"


def _learning_rate(train: TrainConfig, hidden: int | None) -> tuple[float, str]:
    rate = FULL_RATE
    words = [f"{FULL_RATE:g}"]
    if train.adapter is not None:
        rate = rate * ADAPTER_GAIN
        words = [*words, f"times {ADAPTER_GAIN} for adapters"]
    if train.method in CLASSIFYING:
        words.append("as for BERT")
    else:
        rate *= (WIDTH / (hidden or WIDTH)) ** POWER
        words.append(
            f"times ({WIDTH} / {hidden})^{POWER} for its width"
            if hidden
            else "for a model of unknown width"
        )
    if train.method in CORRECTING:
        rate = rate / CORRECTION
        words = [*words, f"a {CORRECTION}th of it for {train.method}"]
    return float(f"{rate:.1e}"), ", ".join(words)


def _parts(train: TrainConfig, args: dict[str, Any]) -> int:
    """Into how many batches of a device a batch of the optimizer is divided."""
    return max(1, int(number(args, "gradient_accumulation_steps", 1))) * processes(train)


def _answers(train: TrainConfig, args: dict[str, Any]) -> int:
    """That are learned from for each row."""
    return max(1, int(number(args, "num_generations", 8))) if train.method == "grpo" else 1
