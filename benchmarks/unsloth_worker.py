"""Train with Unsloth for `python -m benchmarks.train --unsloth`.

The interpreter of Unsloth's own environment runs this script on a GPU. It reads `task.json` in the
given folder and writes the adapter into `out` and the measurements into `found.json`: the seconds
at the end of each step, and the peak memory. It has not been run yet.
"""

import json
import sys
import time
from pathlib import Path

from unsloth import FastLanguageModel  # first, because it patches the libraries below

import torch  # isort: skip
from transformers import (  # isort: skip
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main() -> None:
    """Train and write the adapter, the ends of the steps and the peak memory."""
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text())
    args = TrainingArguments(
        **task["args"], report_to="none", save_strategy="no", remove_unused_columns=False
    )
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    model, tokenizer = FastLanguageModel.from_pretrained(
        task["model"], max_seq_length=task["limit"], dtype=dtype, load_in_4bit=False
    )
    adapter = task["adapter"] | {"target_modules": LINEAR, "random_state": args.seed}
    model = FastLanguageModel.get_peft_model(
        model, **adapter, use_gradient_checkpointing=args.gradient_checkpointing
    )
    trainer = Trainer(model, args, DataCollatorForSeq2Seq(tokenizer), train_dataset=task["rows"])
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            torch.cuda.synchronize()
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    started = time.perf_counter()
    trainer.train()
    found = {
        "step_ends": [end - started for end in ends],
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }
    model.save_pretrained(args.output_dir)
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
