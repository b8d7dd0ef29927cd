"""Measure the memory in which many rows are tokenized and trained.

    python -m benchmarks.memory 1000000

Writes chats of 500 tokens, and trains the tiny random model on them for a few steps. Most of the
time goes into writing, reading and tokenizing the rows. Writes `benchmarks/results/memory.json`,
whose bytes are the peaks of

- `own`: the memory that only this process has. This is what a machine must have.
- `mapped`: the pages of files, of which the largest is the file of tokenized rows. The operating
  system drops such pages when it needs the memory.

The second of them is 0 where the operating system does not tell them apart (macOS).
"""

import json
import os
import random
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from stages.core.data.records import PREPARED, Record
from stages.core.entrypoint import tool_main
from stages.core.storage.files import write_jsonl

RESULT = Path("benchmarks/results/memory.json")
STEPS = 10
VALIDATION = 100  # rows
QUESTION = 275  # characters, which are tokens of the tiny model; its template adds 75 tokens
ANSWER = 150
INTERVAL = 0.1  # seconds between two samples


@tool_main("memory")
def main() -> None:
    """Measure one number of rows, write the result and print it."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), rows)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found))  # noqa: T201


def measure(folder: Path, rows: int) -> dict[str, Any]:
    """Write the rows into a folder and train on them there."""
    data = folder / PREPARED
    data.mkdir(parents=True)
    letters = "".join(
        random.Random(42).choices(string.ascii_lowercase, k=rows + VALIDATION + QUESTION + ANSWER)
    )
    with (data / "train.jsonl").open("wb") as file:
        file.writelines(make_record(letters, i).dump() for i in range(rows))
    for split in ("validation", "test"):
        held_out = (make_record(letters, rows + i) for i in range(VALIDATION))
        write_jsonl(data / f"{split}.jsonl", held_out)
    command = [
        *(sys.executable, "-m", "stages.train", "model=tiny-random", "tracking=disabled"),
        *(f"train.args.max_steps={STEPS}", "train.args.eval_strategy=no"),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "DVC_ROOT": str(folder)}
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment)
    peaks = watch(process)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed with exit status {process.returncode}")
    numbers = json.loads((folder / "metrics/train.json").read_text())
    tokens = numbers["tokens"] / (STEPS * 16)
    return {"rows": rows, "tokens_a_row": tokens, "seconds": seconds, **peaks}


def watch(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """Return the peaks of a process that runs, in bytes."""
    own = 0
    mapped = 0
    while process.poll() is None:
        try:
            memory = psutil.Process(process.pid).memory_info()
        except psutil.NoSuchProcess:
            break
        shared = getattr(memory, "shared", 0)
        own = max(own, memory.rss - shared)
        mapped = max(mapped, shared)
        time.sleep(INTERVAL)
    process.wait()
    return {"own_bytes": own, "mapped_bytes": mapped}


def make_record(letters: str, start: int) -> Record:
    """Make a chat of the letters from `start` on, so that no two chats are equal."""
    middle = start + QUESTION
    asked = letters[start:middle]
    answer = letters[middle : middle + ANSWER]
    return Record.of([{"role": "user", "content": asked}, {"role": "assistant", "content": answer}])


if __name__ == "__main__":
    main()
