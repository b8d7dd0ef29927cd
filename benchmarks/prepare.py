"""Measure `prepare` on made chats: seconds, rows a second and peak memory for each number of rows.

    python -m benchmarks.prepare 10000 100000 1000000

Writes `benchmarks/results/prepare.json`. The rows are made from a seed, one in a hundred repeats an earlier one.
Reading, checking, exact de-duplication, splitting and writing are timed as one process, start-up included.
"""

import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

from benchmarks.pipeline import run

RESULT = Path("benchmarks/results/prepare.json")
WORDS = [f"{start}{middle}{end}" for start in "bdfgklmprst" for middle in "aeiou" for end in ("n", "r", "st", "lk")]


def main() -> None:
    """Measure each size and print the table."""
    table = [measure(int(rows)) for rows in sys.argv[1:] or ("10000", "100000")]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(table, indent=2) + "\n")
    print(f"{'rows':>10} {'seconds':>9} {'rows/s':>9} {'peak MB':>9}")  # noqa: T201
    for line in table:
        rate, peak = line["rows_per_second"], line["peak_bytes"] / 1e6
        print(f"{line['rows']:>10,} {line['seconds']:>9.1f} {rate:>9,.0f} {peak:>9,.0f}")  # noqa: T201


def measure(rows: int) -> dict[str, Any]:
    """One run of the stage on `rows` made rows."""
    root = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        make_rows(Path(folder) / "rows.jsonl", rows)
        options = ["model=tiny-random", "data=chat-jsonl", "data.source.path=rows.jsonl", "tracking=disabled"]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        seconds, peak = run(Path(folder), environment, sys.executable, "-m", "stages.prepare", *options)
    return {"rows": rows, "seconds": seconds, "rows_per_second": rows / seconds, "peak_bytes": peak}


def make_rows(path: Path, count: int, seed: int = 42) -> None:
    """Chats of a system message, a question of 10 to 60 words and an answer of 3 to 30."""
    draws = random.Random(seed)
    system = {"role": "system", "content": "Answer the question in a few words."}
    earlier: list[bytes] = []
    with path.open("wb") as file:
        for _ in range(count):
            if earlier and draws.random() < 0.01:  # noqa: PLR2004
                file.write(draws.choice(earlier))
                continue
            question, answer = (" ".join(draws.choices(WORDS, k=draws.randint(*span))) for span in ((10, 60), (3, 30)))
            messages = [system, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            line = orjson.dumps({"messages": messages}, option=orjson.OPT_APPEND_NEWLINE)
            if len(earlier) < 1000:  # noqa: PLR2004
                earlier.append(line)
            file.write(line)


if __name__ == "__main__":
    main()
