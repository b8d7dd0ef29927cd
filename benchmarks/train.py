"""How fast does `train` learn? Against TRL's `SFTTrainer` with its defaults and with its best own options.

    python -m benchmarks.train [ROWS]

Needs `dvc repro prepare` before it. Each contender is a process of its own that trains the default model on the same
first rows of the training split (320 by default), for one epoch, with the LoRA, batch size, learning rate, schedule,
seed and precision of the configuration. Printed and written to `benchmarks/results/train.json`: tokens a second
(non-padding), the peak resident memory, the loss of a target token on the validation split before and after (by the
same code for all), and how much of the speed of this machine's matrix products is used.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from benchmarks.table import show
from stages.core.base_models import BaseModel, get_base_model
from stages.core.config import Config, parse
from stages.core.estimate import BFLOAT16_GAIN, get_shape, matrix_product_speed, operations
from stages.core.models import get_dtype, get_model, get_tokenizer
from stages.core.prompts import build_prompt, encode_prompt, encode_target
from stages.core.records import Record, read_records

RESULT = Path("benchmarks/results/train.json")
TRLS_OWN = ("gradient_checkpointing", "train_sampling_strategy")  # what TRL has defaults for
OURS, DEFAULTS, WHOLE, PARTS = "this stage", "TRL, its defaults", "TRL, its best, 16 rows", "TRL, its best, 4 x 4 rows"


def main() -> None:
    """Run every contender and print the table."""
    if len(sys.argv) == 3:  # noqa: PLR2004  (a contender's own process)
        print(json.dumps(compete(sys.argv[2], int(sys.argv[1]))))  # noqa: T201
        return
    rows = sys.argv[1] if len(sys.argv) > 1 else "320"
    table = []
    for name in (OURS, DEFAULTS, WHOLE, PARTS):
        command = [sys.executable, "-m", "benchmarks.train", rows, name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        table.append({"contender": name, **json.loads(done.stdout.splitlines()[-1])})
    rate = {row["contender"]: row["tokens/s"] for row in table}
    ratios = {
        "ratio_to_trl_defaults": rate[OURS] / rate[DEFAULTS],
        "ratio_to_trl_best": rate[OURS] / max(rate[WHOLE], rate[PARTS]),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({**ratios, "contenders": table}, indent=2))
    show(table)
    show([ratios])


def compete(name: str, count: int) -> dict[str, float]:
    """Train as one contender does and measure it."""
    from peft.helpers import disable_input_dtype_casting

    config = parse(OmegaConf.load("params.yaml"))  # type: ignore[arg-type]
    config = config.model_copy(update={"train": config.train.model_copy(update={"args": get_arguments(config)})})
    base = get_base_model(config.model, config.seed)
    tokenizer, records = get_tokenizer(base), read_records("train")[:count]
    before = get_loss(config, tokenizer, get_model(base, config.model.dtype))
    pairs = [encode(config, tokenizer, record) for record in records]
    tokens, trained = sum(len(a) + len(b) for a, b in pairs), sum(len(b) for _, b in pairs)
    with tempfile.TemporaryDirectory() as folder:
        make = make_ours if name == OURS else make_trl
        trainer = make(config, base, tokenizer, records, folder, name)
        casts = disable_input_dtype_casting(trainer.model, active=name == OURS and is_bfloat16(config))  # as in `tune`
        started = time.perf_counter()
        with casts:
            trainer.train()
        seconds = time.perf_counter() - started
    shape = get_shape(config.model, base)
    done = operations(config.train, shape, tokens, trained) if shape else 0.0
    return {
        "tokens/s": tokens / seconds,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "loss before": before,
        "loss after": get_loss(config, tokenizer, trainer.model.eval()),
        "of products": done / seconds / (matrix_product_speed() * (BFLOAT16_GAIN if is_bfloat16(config) else 1)),
    }


def get_arguments(config: Config) -> dict[str, Any]:
    """Those of the configuration for one epoch without validation."""
    return {**config.train.args, "num_train_epochs": 1, "max_steps": -1, "eval_strategy": "no"}


def make_ours(config: Config, base: BaseModel, tokenizer: Any, records: list[Record], folder: str, _: str) -> Any:
    """The trainer of `stages.train`."""
    from stages.core.tracking import Tracker
    from stages.train.examples import get_examples
    from stages.train.tuning import get_trainer

    examples, ids = get_examples(config, tokenizer, records), [record.id for record in records]
    return get_trainer(config, base, tokenizer, examples, ids, examples, Tracker(config, None), folder)


def make_trl(config: Config, base: BaseModel, tokenizer: Any, records: list[Record], folder: str, name: str) -> Any:
    """TRL's own, on prompts and completions, so that it too learns the answers alone."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    instruction, bf16 = config.prompt.short_instruction, is_bfloat16(config)
    chats = [{"prompt": build_prompt(r, instruction), "completion": [r.messages[-1]]} for r in records]
    chosen = {"output_dir": folder, "report_to": "none", "save_strategy": "no", "bf16": bf16, "seed": config.seed}
    taken = {key: value for key, value in config.train.args.items() if key not in TRLS_OWN} | chosen | {"use_cpu": True}
    if name != DEFAULTS:
        taken |= {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"}
        taken |= {"model_init_kwargs": {"dtype": get_dtype(config.model.dtype)}}
    if name == PARTS:
        taken |= {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    adapter = LoraConfig(task_type="CAUSAL_LM", **config.train.adapter)  # type: ignore[arg-type]
    return SFTTrainer(
        model=base.path,
        args=SFTConfig(**taken),
        train_dataset=Dataset.from_list(chats),
        processing_class=tokenizer,
        peft_config=adapter,
    )


def get_loss(config: Config, tokenizer: Any, model: Any) -> float:
    """Nats a target token over the validation split."""
    import torch

    from stages.core.likelihood import get_nats

    pairs = [encode(config, tokenizer, record) for record in read_records("validation")]
    with torch.autocast(model.device.type, torch.bfloat16, enabled=is_bfloat16(config)):
        nats = get_nats(model, pairs, "validation")
    return sum(nats) / sum(len(told) for _, told in pairs)


def encode(config: Config, tokenizer: Any, record: Record) -> tuple[list[int], list[int]]:
    """Token ids of what is asked and of what is learned."""
    prompt = build_prompt(record, config.prompt.short_instruction)
    return encode_prompt(tokenizer, prompt, record.tools), encode_target(tokenizer, record)


def is_bfloat16(config: Config) -> bool:
    """Whether products run in bfloat16."""
    return str(get_dtype(config.model.dtype)) == "torch.bfloat16"


if __name__ == "__main__":
    main()
