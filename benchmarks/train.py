"""Compare the training speed of `stages.train` with TRL's `SFTTrainer` and with other products.

    python -m benchmarks.train [ROWS]               # 320 rows by default
    python -m benchmarks.train --options            # also what our own options cost
    python -m benchmarks.train --llama-factory      # also LLaMA-Factory, in a 6 GB environment
    python -m benchmarks.train --unsloth            # also Unsloth, which needs a GPU

Needs the output of `dvc repro prepare`. TRL competes with its defaults and with its best own
options. LLaMA-Factory and Unsloth get environments of their own, which are made once. Each
contender (`benchmarks/contenders.py`) is a process that trains the default model for one epoch on
the same first rows of the training split, with the LoRA, batch size, learning rate, schedule, seed
and precision of the configuration. All contenders read the same rows in the same steps, except
those that take rows "by length", which is faster and teaches less.

The benchmark prints these columns and writes them to `benchmarks/results/train.json`:

- `tokens/s`: tokens per second, of the same non-padding tokens for all contenders
- `peak GB`: peak memory, which is GPU memory on a GPU and resident memory otherwise and for
  LLaMA-Factory
- `loss before` and `loss after`: loss per target token on the validation split, by the same code
  for all
- `of products`: the share of this machine's matrix-product speed that the training uses, on a CPU
- `first step s`: seconds of the first step, in which `torch.compile` compiles
- `tokens read`: tokens that a contender reads for each of ours, because LLaMA-Factory also reads
  the line break after a chat

On a GPU each contender takes a few steps before it is measured. For LLaMA-Factory and Unsloth these
are the first steps of their only training. TRL also joins rows there, packed (in other steps) and
padding-free. `benchmarks.gpu_check` measures more there, without data.

The ratios compare us with the fastest contender of each product whose loss after training is at
most 2 % above ours.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.contenders import (
    CONTENDERS,
    JOINED,
    LLAMA_FACTORY,
    OPTIONS,
    OURS,
    TRL,
    UNSLOTH,
    with_arguments,
)
from benchmarks.others import Task, has_gpu
from benchmarks.table import show
from stages.core.config.schema import Config, read_params
from stages.core.data.prompts import build_prompt, encode_prompt, encode_target
from stages.core.data.records import Record, read_records
from stages.core.entrypoint import PRIMITIVES, make_parser
from stages.core.models.base_models import get_base_model
from stages.core.models.loading import get_dtype, get_model, get_tokenizer
from stages.core.planning.estimate import BFLOAT16_GAIN, matrix_product_speed, operations
from stages.core.planning.model_dimensions import get_model_dimensions

SAME_LOSS = 1.02  # of our loss at most: a ratio to a contender that learned less would be unfair
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
    """Run every contender, write the results and print them as a table."""
    asked = get_arguments()
    if asked.contender:  # this is the process of one contender
        print(json.dumps(compete(asked.contender, asked.rows)))  # noqa: T201
        return
    wanted = [
        OURS,
        *TRL,
        *(JOINED if has_gpu() else []),
        *(OPTIONS if asked.options else []),
        *(LLAMA_FACTORY if asked.llama_factory else []),
    ]
    if asked.unsloth and not has_gpu():
        sys.exit("--unsloth needs a GPU, but torch sees none")
    table = [run(name, asked.rows) for name in [*wanted, *([UNSLOTH] if asked.unsloth else [])]]
    worst = SAME_LOSS * (table[0]["loss after"] or 0.0)
    rates = {
        row["contender"]: row["tokens/s"]
        for row in table
        if row["tokens/s"] and row["loss after"] <= worst
    }
    rivals = {
        "trl_defaults": [TRL[0]],
        "trl_best": [*TRL[1:], *JOINED],
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
    """Parse the command line."""
    parser = make_parser("benchmarks.train", __doc__)
    parser.add_argument("rows", nargs="?", type=int, default=320)
    for flag in ("--options", "--llama-factory", "--unsloth"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(name: str, rows: int) -> dict[str, Any]:
    """Run one contender in a process of its own.

    If it fails, its numbers stay empty and the other contenders still run.
    """
    command = [sys.executable, "-m", "benchmarks.train", str(rows), "--contender", name]
    # Each contender runs as its users run it, and only our stages set this variable.
    environment = os.environ | (dict([PRIMITIVES]) if name.startswith(OURS) else {})
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=False)
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    return {"contender": name, **{heading: found.get(heading) for heading in HEADINGS}}


def compete(name: str, count: int) -> dict[str, float | None]:
    """Train with one contender and measure it."""
    config = read_params()
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
        model.set_attn_implementation(attention)  # our trainer may have changed it
        after = get_loss(config, tokenizer, model.eval())
    dimensions = None if has_gpu() else get_model_dimensions(config.model, base)
    speed = matrix_product_speed(runs=8) * (BFLOAT16_GAIN if task.is_bfloat16 else 1)
    return {
        "tokens/s": tokens / seconds,
        "peak GB": peak / 1e9,
        "loss before": before,
        "loss after": after,
        "of products": operations(config.train, dimensions, tokens, trained) / seconds / speed
        if dimensions
        else None,
        **facts,
        **({"tokens read": facts["tokens read"] / tokens} if "tokens read" in facts else {}),
    }


def get_loss(config: Config, tokenizer: Any, model: Any) -> float:
    """Return the loss on the validation split in nats per target token."""
    import torch

    from stages.core.models.likelihood import get_nats

    pairs = [encode(config, tokenizer, record) for record in read_records("validation")]
    fast = get_dtype(config.model.dtype) == torch.bfloat16
    with torch.autocast(model.device.type, torch.bfloat16, enabled=fast):
        nats = get_nats(model, pairs, "validation")
    return sum(nats) / sum(len(told) for _, told in pairs)


def encode(config: Config, tokenizer: Any, record: Record) -> tuple[list[int], list[int]]:
    """Return the token ids of the prompt and of the target."""
    prompt = build_prompt(record, config.prompt.tuned_system_prompt)
    return encode_prompt(tokenizer, prompt, record.tools), encode_target(tokenizer, record)


if __name__ == "__main__":
    main()
