"""How fast does `train` learn? Against TRL's `SFTTrainer` with its defaults and with its best own options, and others.

    python -m benchmarks.train [ROWS]               # 320 rows by default
    python -m benchmarks.train --options            # also what our own options cost
    python -m benchmarks.train --llama-factory      # also LLaMA-Factory: makes an environment of its own, 6 GB, once
    python -m benchmarks.train --unsloth            # also Unsloth, likewise; needs a GPU

Needs `dvc repro prepare` before it. Each contender (`benchmarks/contenders.py`) is a process of its own that trains the
default model on the same first rows of the training split, for one epoch, with the LoRA, batch size, learning rate,
schedule, seed and precision of the configuration. Printed and written to `benchmarks/results/train.json`: tokens a
second (the same non-padding tokens for all), the peak memory (resident; on a GPU that of the GPU, but not of
LLaMA-Factory), the loss of a target token on the validation split before and after (by the same code for all), how much
of the speed of this machine's matrix products is used, the seconds of the first step, in which `torch.compile`
compiles, and the tokens that a contender reads for each of ours: LLaMA-Factory also reads the line break after a chat.
All read the same rows in the same steps, but those that take rows "by length": that is faster and teaches less. The
ratios are those to the fastest of each product whose loss after training is at most 2 % above ours.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from benchmarks.contenders import (
    CONTENDERS,
    LLAMA_FACTORY,
    OPTIONS,
    OURS,
    TRL,
    UNSLOTH,
    with_arguments,
)
from benchmarks.others import Task, has_gpu
from benchmarks.table import show
from stages.core.config.schema import Config, parse
from stages.core.data.prompts import build_prompt, encode_prompt, encode_target
from stages.core.data.records import Record, read_records
from stages.core.entrypoint import PRIMITIVES
from stages.core.models.base_models import get_base_model
from stages.core.models.loading import get_dtype, get_model, get_tokenizer
from stages.core.planning.estimate import BFLOAT16_GAIN, matrix_product_speed, operations
from stages.core.planning.model_dimensions import get_shape

SAME_LOSS = 1.02  # times ours at most: who learns less in as many steps is not compared with
RESULT = Path("benchmarks/results/train.json")
HEADINGS = (
    "tokens/s",
    "peak GB",
    "loss before",
    "loss after",
    "of products",
    "first step s",
    "tokens read",
)


def main() -> None:
    """Run every contender and print the table."""
    asked = get_arguments()
    if asked.contender:  # its own process
        print(json.dumps(compete(asked.contender, asked.rows)))  # noqa: T201
        return
    wanted = [
        OURS,
        *TRL,
        *(OPTIONS if asked.options else []),
        *(LLAMA_FACTORY if asked.llama_factory else []),
    ]
    if asked.unsloth and not has_gpu():
        sys.exit("Unsloth needs a GPU, and torch sees none here")
    table = [run(name, asked.rows) for name in [*wanted, *([UNSLOTH] if asked.unsloth else [])]]
    worst = SAME_LOSS * (table[0]["loss after"] or 0.0)
    rates = {
        row["contender"]: row["tokens/s"]
        for row in table
        if row["tokens/s"] and row["loss after"] <= worst
    }
    rivals = {
        "trl_defaults": [TRL[0]],
        "trl_best": TRL[1:],
        "llama_factory": LLAMA_FACTORY,
        "unsloth": [UNSLOTH],
    }
    best = {
        rival: max((rates.get(name, 0.0) for name in names), default=0.0)
        for rival, names in rivals.items()
    }
    ratios = {
        f"ratio_to_{rival}": rates.get(OURS, 0.0) / rate for rival, rate in best.items() if rate
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({**ratios, "rows": asked.rows, "contenders": table}, indent=2))
    show([{key: "" if value is None else value for key, value in row.items()} for row in table])
    if ratios:
        show([ratios])


def get_arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="?", type=int, default=320)
    for flag in ("--options", "--llama-factory", "--unsloth"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(name: str, rows: int) -> dict[str, Any]:
    """One contender in its own process; where it fails, its numbers stay empty and the others go on."""
    command = [sys.executable, "-m", "benchmarks.train", str(rows), "--contender", name]
    environment = os.environ | (
        dict([PRIMITIVES]) if name.startswith(OURS) else {}
    )  # as each is run by its users
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=False)
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    return {"contender": name, **{heading: found.get(heading) for heading in HEADINGS}}


def compete(name: str, count: int) -> dict[str, float]:
    """Train as one contender does and measure it."""
    config = parse(OmegaConf.load("params.yaml"))  # type: ignore[arg-type]
    config = with_arguments(config, num_train_epochs=1, max_steps=-1, eval_strategy="no")
    base = get_base_model(config.model, config.seed)
    tokenizer = get_tokenizer(base)
    records = read_records("train")[:count]
    plain = get_model(base, config.model.dtype)
    attention = plain.config._attn_implementation
    before = get_loss(config, tokenizer, plain)
    pairs = [encode(config, tokenizer, record) for record in records]
    tokens = sum(len(a) + len(b) for a, b in pairs)
    trained = sum(len(b) for _, b in pairs)
    with tempfile.TemporaryDirectory() as folder:
        task = Task(config, base, tokenizer, records, Path(folder))
        model, seconds, peak, facts = CONTENDERS[name](task)
        model.set_attn_implementation(attention)  # ours may have trained with another
        after = get_loss(config, tokenizer, model.eval())
    shape = get_shape(config.model, base)
    speed = matrix_product_speed() * (BFLOAT16_GAIN if task.is_bfloat16 else 1)
    return {
        "tokens/s": tokens / seconds,
        "peak GB": peak / 1e9,
        "loss before": before,
        "loss after": after,
        "of products": operations(config.train, shape, tokens, trained) / seconds / speed
        if shape
        else 0.0,
        **facts,
        **({"tokens read": facts["tokens read"] / tokens} if "tokens read" in facts else {}),
    }


def get_loss(config: Config, tokenizer: Any, model: Any) -> float:
    """Nats a target token over the validation split."""
    import torch

    from stages.core.models.likelihood import get_nats

    pairs = [encode(config, tokenizer, record) for record in read_records("validation")]
    fast = get_dtype(config.model.dtype) == torch.bfloat16
    with torch.autocast(model.device.type, torch.bfloat16, enabled=fast):
        nats = get_nats(model, pairs, "validation")
    return sum(nats) / sum(len(told) for _, told in pairs)


def encode(config: Config, tokenizer: Any, record: Record) -> tuple[list[int], list[int]]:
    """Token ids of what is asked and of what is learned."""
    prompt = build_prompt(record, config.prompt.short_instruction)
    return encode_prompt(tokenizer, prompt, record.tools), encode_target(tokenizer, record)


if __name__ == "__main__":
    main()
