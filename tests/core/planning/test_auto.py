import math

import pytest

from stages.core.errors import UserError
from stages.core.planning.auto import processes, resolve, steps_per_epoch
from stages.core.planning.estimate import estimate_training
from stages.core.planning.model_dimensions import ModelDimensions

AUTO = [
    f"train.args.{key}=auto"
    for key in ("num_train_epochs", "per_device_train_batch_size", "learning_rate")
]
DIMENSIONS = ModelDimensions(576, 1536, 30, 49152, 192, tied=True)
ACCELERATE = "{kind: accelerate, num_processes: 2, config_file: null, args: []}"
SLURM = (
    "{kind: slurm, cluster: slurm, nodes: 2, num_processes: 4, config_file: null, args: [], folder: logs, minutes: 9, "
    "parameters: {}}"
)


def chosen(config, *overrides, hidden=576, rows=696):
    args, reasons = resolve(config(*AUTO, *overrides).train, hidden, rows)
    assert set(reasons) == {key for key in args if f"train.args.{key}=auto" in AUTO}
    return args


def test_the_default_task_gets_what_was_found_by_hand(config):
    args = chosen(config)
    assert (args["num_train_epochs"], args["per_device_train_batch_size"]) == (3, 16)
    assert args["learning_rate"] == 1.3e-3


def test_what_is_not_auto_stays(config):
    checked = config("train.args.num_train_epochs=5", "+train.args.optim=auto")
    args, reasons = resolve(checked.train, 576, 696)
    assert args == checked.train.args and args["optim"] == "auto" and reasons == {}


@pytest.mark.parametrize(
    ("rows", "epochs"), [(1, 25), (5, 20), (33, 3), (34, 3), (8333, 3), (8334, 2), (30000, 1)]
)
def test_epochs(config, rows, epochs):
    assert chosen(config, rows=rows)["num_train_epochs"] == epochs


@pytest.mark.parametrize(
    ("rows", "batch"), [(1, 4), (312, 4), (313, 8), (624, 8), (625, 16), (2497, 64), (10**6, 64)]
)
def test_batches_leave_forty_steps_an_epoch_between_4_and_64_rows(config, rows, batch):
    assert chosen(config, rows=rows)["per_device_train_batch_size"] == batch
    assert math.ceil(rows / batch) >= 40 or batch == 4


@pytest.mark.parametrize(
    ("overrides", "size"),
    [
        (("train.args.gradient_accumulation_steps=4",), 4),
        ((f"++train.launcher={ACCELERATE}",), 8),
        ((f"++train.launcher={SLURM}",), 2),
        ((f"++train.launcher={SLURM}", "train.args.gradient_accumulation_steps=16"), 1),
    ],
)
def test_the_batch_is_divided_by_processes_and_accumulation(config, overrides, size):
    assert chosen(config, *overrides)["per_device_train_batch_size"] == size


@pytest.mark.parametrize(
    ("overrides", "rows", "size"),
    [
        ((), 100, 16),  # 800 answers
        ((), 1, 8),  # never less than all answers to a question
        (("+train.args.num_generations=6",), 200, 12),
        (("+train.args.num_generations=6", "train.args.gradient_accumulation_steps=4"), 100, 3),
        (("+train.args.num_generations=5", f"++train.launcher={ACCELERATE}"), 1000, 30),
    ],
)
def test_a_batch_of_grpo_holds_all_answers_to_a_question(config, overrides, rows, size):
    checked = config(
        *AUTO,
        "train.method=grpo",
        "+train.grpo_rewards={a:{kind:metric-score,metric:exact_match,options:{},weight:1}}",
        *overrides,
    ).train
    args, _ = resolve(checked, 576, rows)
    whole = size * args["gradient_accumulation_steps"] * processes(checked)
    assert args["per_device_train_batch_size"] == size
    assert whole % args.get("num_generations", 8) == 0


@pytest.mark.parametrize(
    ("overrides", "hidden", "rate"),
    [
        (("train=full",), 576, 1.3e-4),
        ((), 2000, 5e-4),
        ((), None, 5e-4),
        ((), 4096, 2.9e-4),
        (("train.method=dpo",), 2000, 1e-5),
        (("train=full", "train.method=kto"), 2000, 1e-6),
        (("train.method=reward-model",), 2000, 5e-4),
        (("train=full", "train.method=sequence-classification"), 576, 5e-5),
        (("train.method=token-classification",), 576, 5e-4),
    ],
)
def test_learning_rates(config, overrides, hidden, rate):
    assert chosen(config, *overrides, hidden=hidden)["learning_rate"] == rate


def test_a_number_is_asked_for_where_the_rules_count(config):
    with pytest.raises(
        UserError, match=r"train.args.gradient_accumulation_steps is 'auto', expected a number"
    ):
        chosen(config, "train.args.gradient_accumulation_steps=auto")


@pytest.mark.parametrize("rows", [23, 24, 100])
@pytest.mark.parametrize(("batch", "accumulation"), [(4, 1), (3, 4)])
def test_steps_are_those_of_the_trainers(config, rows, batch, accumulation, tmp_path):
    import torch
    from transformers import Trainer, TrainingArguments

    args = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 2,
    }
    given = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **args)
    trainer = Trainer(torch.nn.Linear(1, 1), given, train_dataset=[{"x": 0.0}] * rows)
    _, expected, *_ = trainer.set_initial_training_values(given, trainer.get_train_dataloader())
    assert steps_per_epoch(config().train, args, rows) == expected


@pytest.mark.parametrize(
    ("rows", "generations", "batch", "iterations"), [(24, 8, 16, 1), (25, 4, 8, 1), (24, 8, 16, 2)]
)
def test_steps_of_grpo_are_trls(config, rows, generations, batch, iterations):
    from trl.trainer.utils import RepeatSampler

    args = {
        "per_device_train_batch_size": batch,
        "num_generations": generations,
        "num_iterations": iterations,
    }
    train = config(
        "train.method=grpo",
        "+train.grpo_rewards={a:{kind:metric-score,metric:exact_match,options:{},weight:1}}",
    ).train
    drawn = list(RepeatSampler(range(rows), generations, batch // generations, iterations))
    assert steps_per_epoch(train, args, rows) == len(drawn) / batch


@pytest.mark.parametrize(
    "overrides",
    [
        ("train.method=dpo",),
        ("train.method=sequence-classification",),
        ("train.quantization={load_in_4bit: true}",),
        ("train.args.gradient_checkpointing=true",),
        (f"++train.launcher={ACCELERATE}", "train.args.per_device_train_batch_size=8"),
    ],
)
def test_the_estimate_does_not_claim_what_it_does_not_know(config, overrides):
    found = estimate_training(
        config(*overrides).train, DIMENSIONS, 696, 50_000, 20_000, 2048, "float32"
    )
    assert found["steps"] == 88 and "seconds" not in found and "not estimated" in found["sentence"]


def test_the_estimate_counts_with_what_auto_means(config):
    found = estimate_training(config(*AUTO).train, DIMENSIONS, 696, 50_000, 20_000, 2048, "float32")
    assert found["steps"] == 3 * 44 and found["tokens"] == 150_000
    assert "learning_rate=0.0013: 5e-05, times 10 for adapters" in found["sentence"]
    assert set(found["auto"]) == {
        "num_train_epochs",
        "per_device_train_batch_size",
        "learning_rate",
    }
