"""The rules for `auto` among the training arguments, and the number of training steps.

- `num_train_epochs` follows OpenAI's rule ("Data preparation and analysis for chat model
  fine-tuning", OpenAI cookbook). The default is 3 epochs. The number is higher if all epochs
  together would show fewer than 100 rows, and lower if they would show more than 25,000.
- `per_device_train_batch_size` follows a rule of our own. An optimizer step gets the largest power
  of two between 4 and 64 rows that leaves at least 40 steps per epoch. This is divided by the
  processes and by `gradient_accumulation_steps`. A handful of steps teaches little, and large
  batches hurt adapters more than full training (Schulman et al., "LoRA Without Regret", Thinking
  Machines Lab, 2025). A batch of GRPO is counted in answers and contains all answers to a question.
- `learning_rate` is 5e-5 x (2000 / width of the model)^0.781, and ten times that with adapters. The
  rule was fitted to models of the Llama family in the same study and is in its authors' cookbook
  (`tinker_cookbook/hyperparam_utils.py`). Other families have another exponent (Qwen 0.0775), so
  the value is only a starting point. Methods that correct a model which already answers use a
  fiftieth of it, because TRL's documentation gives 1e-6, and 1e-5 with adapters. Classification
  heads use 5e-5 (Devlin et al., "BERT", 2019, appendix A.3), and ten times that with adapters.
"""

import math
from typing import Any

from stages.core.config.launcher import Accelerate, Slurm
from stages.core.config.train import CLASSIFYING, ON_POLICY, TrainConfig
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
    """Replace `auto` in `train.args` by numbers.

    Only the three arguments that the module describes are replaced. All others keep `auto`.

    Args:
        train: The method, adapter, launcher and arguments of training.
        hidden: The model's width, or None if its configuration does not state it.
        rows: The number of training rows.

    Returns:
        The arguments, and for each replaced argument a phrase that explains its value.

    Raises:
        UserError: An argument that the rules use is not a number.
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
    """Count the processes that train together.

    Machines that are added by flags of `accelerate launch` are not counted.
    """
    launcher = train.launcher
    if isinstance(launcher, Slurm):
        return launcher.nodes * launcher.num_processes
    return launcher.num_processes if isinstance(launcher, Accelerate) else 1


def count_replay_rows(train: TrainConfig, rows: int) -> int:
    """Count the replay rows per epoch that make up `train.replay.fraction` of all rows.

    Args:
        train: The section with the share.
        rows: The number of training rows of the task.
    """
    share = train.replay.fraction
    return round(rows * share / (1 - share))


def steps_per_epoch(train: TrainConfig, args: dict[str, Any], rows: int) -> int:
    """Count the optimizer steps per epoch as the trainers of transformers and TRL do.

    Args:
        train: The method and launcher of training.
        args: The arguments from `resolve`.
        rows: The number of training rows.
    """
    batch = number(args, "per_device_train_batch_size", 8) * _parts(train, args)
    if train.method in ON_POLICY:  # an incomplete last batch is dropped
        steps = rows * _answers(train, args) * number(args, "num_iterations", 1) // batch
    else:
        steps = math.ceil(rows / batch)
    return max(1, int(steps))


def number(args: dict[str, Any], key: str, default: float) -> float:
    """Return an argument that must be a number, or the default if it is missing.

    Raises:
        UserError: The argument is not a number.
    """
    value = args.get(key)
    if isinstance(value, str | bool | list | dict):
        raise UserError(
            f"train.args.{key} is {value!r}, expected a number. Give a number, or remove the "
            f"argument to use {default}"
        )
    return default if value is None else value


def cookbook_epochs(rows: int) -> int:
    """Return the number of epochs that OpenAI chooses by default for a number of rows."""
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
    # A multiple of this number on each device keeps all answers to a question together.
    unit = answers // math.gcd(answers, parts)
    size = max(unit, batch // parts // unit * unit)
    what = f"{rows:,} rows with {answers} answers each" if answers > 1 else f"{rows:,} rows"
    split = (
        f", divided by {parts} (processes times gradient_accumulation_steps)" if parts > 1 else ""
    )
    steps = math.ceil(rows * answers / (size * parts))
    return size, f"{size * parts} per step{split}, for {steps:,} steps per epoch of {what}"


def _learning_rate(train: TrainConfig, hidden: int | None) -> tuple[float, str]:
    rate = FULL_RATE
    words = [f"{FULL_RATE:g}"]
    if train.adapter is not None:
        rate = rate * ADAPTER_GAIN
        words = [*words, f"times {ADAPTER_GAIN} for adapters"]
    if train.method in CLASSIFYING:
        words.append("from the rule for BERT")
    else:
        rate *= (WIDTH / (hidden or WIDTH)) ** POWER
        words.append(
            f"times ({WIDTH} / {hidden})^{POWER} for the model's width"
            if hidden
            else "for a model of unknown width"
        )
    if train.method in CORRECTING:
        rate = rate / CORRECTION
        words = [*words, f"divided by {CORRECTION} for {train.method}"]
    return float(f"{rate:.1e}"), ", ".join(words)


def _parts(train: TrainConfig, args: dict[str, Any]) -> int:
    """Return the number of device batches in one optimizer batch."""
    return max(1, int(number(args, "gradient_accumulation_steps", 1))) * processes(train)


def _answers(train: TrainConfig, args: dict[str, Any]) -> int:
    """Return the number of answers per row that training uses."""
    return max(1, int(number(args, "num_generations", 8))) if train.method == "grpo" else 1
