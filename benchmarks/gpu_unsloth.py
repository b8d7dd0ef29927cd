"""Unsloth on the rows of `benchmarks.gpu_rates`, in the interpreter of its own environment.

It has not been run yet. `TUNEPROOF_BENCHMARK_PYTHON` names an interpreter that has Unsloth.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu_cases import WARM_STEPS, Case, get_python
from benchmarks.gpu_models import get_tokenizer, load
from benchmarks.gpu_rates import make_arguments
from benchmarks.gpu_shapes import Shape
from benchmarks.others import LISTS
from stages.core.storage.files import read_json, write_json

ROWS = 16  # rows of a pass, of which a step has several


def measure_unsloth(
    case: Case, shape: Shape, rows: list[dict[str, Any]], batch: int, folder: str
) -> dict[str, Any]:
    """Train with `benchmarks/unsloth_worker.py` and return what `gpu_rates.measure` returns."""
    base = Path(folder) / "base"
    load(case, shape, "sdpa").save_pretrained(base)
    get_tokenizer().save_pretrained(base)
    size = min(ROWS, batch)
    steps = max(1, batch // size)
    args = make_arguments(
        case, f"{folder}/out", per_device_train_batch_size=size, gradient_accumulation_steps=steps
    )
    args["train_sampling_strategy"] = "sequential"
    own = ("report_to", "save_strategy", "remove_unused_columns")  # which the worker sets itself
    task = {
        "model": str(base),
        "limit": max(row["length"] for row in rows),
        "rows": [{key: row[key] for key in ("input_ids", "labels")} for row in rows],
        "adapter": {"r": shape.rank, "lora_alpha": 32, "lora_dropout": 0.0},
        "args": {key: value for key, value in args.items() if key not in own},
    }
    write_json(Path(folder) / "task.json", task)
    worker = [str(get_python()), str(LISTS / "unsloth_worker.py"), folder]
    subprocess.run(worker, stdout=sys.stderr, check=True)
    found = read_json(Path(folder) / "found.json")
    ends = found["step_ends"]
    read = rows[WARM_STEPS * size * steps : len(ends) * size * steps]
    seconds = ends[-1] - ends[WARM_STEPS - 1]
    return {
        "tokens/s": sum(row["length"] for row in read) / seconds,
        "peak GB": found["peak_bytes"] / 1e9,
        "tokens a pass": None,
        "loss": None,
    }
