"""Train other products on the task of `benchmarks.train`.

Each product has an environment of its own, which is made once in the cache.
"""

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from stages.core.config.schema import Config
from stages.core.data.prompts import build_prompt, encode_segments, split_record
from stages.core.data.records import Record
from stages.core.models.base_models import ModelFiles
from stages.core.models.loading import get_dtype, get_model
from stages.core.storage.cache import cached_folder
from stages.core.storage.files import read_json, sha256_file, write_json

LISTS = Path(__file__).parent
# The variable names an interpreter to use instead of making an environment.
ENVIRONMENT = "TUNEPROOF_BENCHMARK_PYTHON"
WARM_STEPS = 3  # before a measurement on a GPU, in which kernels are chosen and compiled


@dataclass(frozen=True, slots=True)
class Task:
    """The training task of every contender."""

    config: Config
    """The configuration, with `train.args` for one epoch without validation."""
    base: ModelFiles
    tokenizer: Any
    records: list[Record]
    folder: Path
    """An empty folder for the contender's files."""

    @property
    def shuffled(self) -> list[Record]:
        """The records in the order of our stage, so that all contenders have the same steps."""
        from stages.train.trainers.base import EpochOrder

        return [self.records[i] for i in EpochOrder(len(self.records), None, 0, self.config.seed)]

    @property
    def is_bfloat16(self) -> bool:
        """Whether matrix products run in bfloat16."""
        return str(get_dtype(self.config.model.dtype)) == "torch.bfloat16"


class Trained(NamedTuple):
    """A trained model and what its training took."""

    model: Any
    seconds: float
    peak_bytes: float
    facts: dict[str, float]
    """Further measurements of the contender, by column heading."""


def make_environment(product: str) -> str:
    """Return the interpreter of the environment that `benchmarks/<product>.txt` describes.

    The first call for a product makes the environment, which takes minutes.
    """
    wanted = LISTS / f"{product}.txt"

    def fill(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "-r", str(wanted)]
        subprocess.run(install, check=True, stdout=sys.stderr)

    if os.environ.get(ENVIRONMENT):
        return os.environ[ENVIRONMENT]
    return str(
        cached_folder(f"environments/{product}-{sha256_file(wanted)[:12]}", fill, constant=False)
        / "bin/python"
    )


def train_llama_factory(task: Task, as_products: bool = True, **options: Any) -> Trained:
    """Train with LLaMA-Factory's own command on the same files. It reports the time itself.

    On a GPU `benchmarks/llama_factory_worker.py` trains instead, so that the first steps do not
    count, as with all contenders there.

    Args:
        task: What to train.
        as_products: Give it the weights in the precision of the matrix products, because it loads
            them in the precision of the files.
        options: LLaMA-Factory's own arguments, which override those of the configuration.
    """
    out = task.folder / "out"
    args = get_llama_factory_arguments(task, out) | options
    if as_products:
        args["model_name_or_path"] = save_as_products_are(task)
    write_json(task.folder / "train.yaml", args)  # JSON is YAML
    python = make_environment("llama-factory")
    if has_gpu():
        run(task, python, str(LISTS / "llama_factory_worker.py"), str(task.folder))
        steps = read_json(task.folder / "steps.json")
        seconds = get_warm_seconds(steps["ends"], steps["tokens"])
    else:
        run(task, python, "-m", "llamafactory.cli", "train", "train.yaml")
        seconds = read_json(out / "all_results.json")["train_runtime"]
    tokens = float(read_json(out / "all_results.json")["num_input_tokens_seen"])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return Trained(load_adapter(task, out), seconds, peak, {"tokens read": tokens})


def get_llama_factory_arguments(task: Task, out: Path) -> dict[str, Any]:
    """Translate the task into LLaMA-Factory's arguments and write its rows into the folder."""
    config = task.config
    adapter = task.config.train.adapter or {}
    instruction = config.prompt.tuned_system_prompt
    chats = [[*build_prompt(record, instruction), record.messages[-1]] for record in task.shuffled]
    kept = [
        [{key: message[key] for key in ("role", "content")} for message in chat] for chat in chats
    ]
    write_json(task.folder / "rows.json", [{"messages": chat} for chat in kept])
    roles = {"role_tag": "role", "content_tag": "content"}
    tags = {**roles, "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
    described = {
        "file_name": "rows.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": tags,
    }
    write_json(task.folder / "dataset_info.json", {"rows": described})
    ours = ("torch_compile", "gradient_checkpointing", "train_sampling_strategy", "max_steps")
    return {
        **{
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": task.base.path,
            "template": "smollm2",
        },
        **{
            "dataset_dir": str(task.folder),
            "dataset": "rows",
            "cutoff_len": config.model.max_length,
        },
        **{
            "finetuning_type": "lora",
            "lora_rank": adapter["r"],
            "lora_alpha": adapter["lora_alpha"],
        },
        **{"lora_dropout": adapter["lora_dropout"], "lora_target": "all"},
        **{key: value for key, value in config.train.args.items() if key not in ours},
        **{"output_dir": str(out), "save_strategy": "no", "report_to": "none", "seed": config.seed},
        **{
            "bf16": task.is_bfloat16,
            "use_cpu": not has_gpu(),
            "include_num_input_tokens_seen": "non_padding",
        },
        "disable_shuffling": True,
    }


def save_as_products_are(task: Task) -> str:
    """Save the base model in the precision of the matrix products and return its folder."""
    folder = str(task.folder / "base")
    get_model(task.base, task.config.model.dtype).save_pretrained(folder)
    task.tokenizer.save_pretrained(folder)
    return folder


def train_unsloth(task: Task) -> Trained:
    """Train with Unsloth and transformers' trainer, in `benchmarks/unsloth_worker.py`.

    This needs a GPU and has not been run yet.
    """
    instruction = task.config.prompt.tuned_system_prompt
    tokenizer = task.tokenizer
    chats = [split_record(tokenizer, record, instruction) for record in task.shuffled]
    rows = [
        {
            "input_ids": ids,
            "labels": [
                token if learned else -100 for token, learned in zip(ids, trained, strict=True)
            ],
        }
        for ids, trained in encode_segments(tokenizer, chats)
    ]
    given = {key: value for key, value in task.config.train.args.items() if key != "torch_compile"}
    given["train_sampling_strategy"] = "sequential"  # the rows are shuffled already
    args = given | {
        "output_dir": str(task.folder / "out"),
        "bf16": task.is_bfloat16,
        "seed": task.config.seed,
    }
    limit = task.config.model.max_length
    adapter = task.config.train.adapter
    told = {"model": task.base.path, "limit": limit, "rows": rows, "adapter": adapter, "args": args}
    write_json(task.folder / "task.json", told)
    run(task, make_environment("unsloth"), str(LISTS / "unsloth_worker.py"), str(task.folder))
    found = read_json(task.folder / "found.json")
    ends = found["step_ends"]
    step_rows = -(-len(rows) // len(ends))
    lengths = [len(row["input_ids"]) for row in rows]
    starts = range(0, len(lengths), step_rows)
    tokens = list(accumulate(sum(lengths[i : i + step_rows]) for i in starts))
    seconds = get_warm_seconds(ends, tokens)
    facts = {"first step s": ends[0]}
    return Trained(load_adapter(task, task.folder / "out"), seconds, found["peak_bytes"], facts)


def get_warm_seconds(ends: list[float], tokens: list[int]) -> float:
    """Return how long a training takes at the rate of its steps after the warm-up.

    Other contenders warm up in a training of its own, which cannot be done in another process.

    Args:
        ends: The seconds at the end of each step.
        tokens: The tokens that were read until then.

    Raises:
        ValueError: There are no more steps than those of the warm-up.
    """
    if len(ends) <= WARM_STEPS:
        raise ValueError(f"{len(ends)} steps are too few: the first {WARM_STEPS} do not count")
    seconds = ends[-1] - ends[WARM_STEPS - 1]
    read = tokens[-1] - tokens[WARM_STEPS - 1]
    return seconds * tokens[-1] / read


def run(task: Task, *command: str) -> None:
    """Run a contender's command in the task's folder, with its output on standard error."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(task.folder / "cache")}
    subprocess.run(command, cwd=task.folder, env=environment, stdout=sys.stderr, check=True)


def load_adapter(task: Task, folder: Path) -> Any:
    """Load our base model with a contender's adapter."""
    from peft import PeftModel

    return PeftModel.from_pretrained(get_model(task.base, task.config.model.dtype), str(folder))


def has_gpu() -> bool:
    """Return whether torch sees a GPU."""
    import torch

    return torch.cuda.is_available()
