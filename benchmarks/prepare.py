"""Measure the time and memory of `prepare` on synthetic chats, for each number of rows.

    python -m benchmarks.prepare 10000 100000 1000000

The rows come from a seed. One in a hundred repeats an earlier row, and one in a hundred is an
earlier row with a word added. Writes `benchmarks/results/prepare.json`. The columns of seconds are:

- `read`: reading, checking, exact deduplication, splitting and writing, without the scan for
  secrets
- `secrets`: the scan for secrets, timed separately on the same rows
- `tokens`: the model's tokenizer and chat template on every row
- `near`: the MinHash signatures of every row, and the search for near-duplicates
- `all`: the whole process, its start included

Memory is the peak resident memory of the process.
"""

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from benchmarks.pipeline import run
from stages.core.entrypoint import tool_main
from stages.core.secret_formats import kinds_of_secrets, strings

RESULT = Path("benchmarks/results/prepare.json")
WORDS = [
    f"{start}{middle}{end}"
    for start in "bdfgklmprst"
    for middle in "aeiou"
    for end in ("n", "r", "st", "lk")
]


COLUMNS = ("all", "read", "secrets", "tokens", "near")


@tool_main("prepare")
def main() -> None:
    """Measure each number of rows, write the results and print them as a table."""
    table = [measure(int(rows)) for rows in sys.argv[1:] or ("10000", "100000")]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(table, indent=2) + "\n")
    heads = "".join(f"{name + ' s':>10}" for name in COLUMNS)
    rest = f"{'read rows/s':>13}{'all rows/s':>12}{'peak MB':>9}{'near':>8}"
    print(f"{'rows':>10}{heads}{rest}")  # noqa: T201
    for line in table:
        seconds = "".join(f"{line['seconds'][name]:>10.1f}" for name in COLUMNS)
        rates = (
            f"{line['rows'] / line['seconds']['read']:>13,.0f}"
            f"{line['rows'] / line['seconds']['all']:>12,.0f}"
        )
        found = f"{line['peak_bytes'] / 1e6:>9,.0f}{line['near']:>8,}"
        print(f"{line['rows']:>10,}{seconds}{rates}{found}")  # noqa: T201


def measure(rows: int) -> dict[str, Any]:
    """Run the stage once on this many synthetic rows."""
    root = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        make_rows(path, rows)
        options = ["data=chat-jsonl", "data.source.path=rows.jsonl", "tracking=disabled"]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        whole = run(Path(folder), environment, sys.executable, "-m", "stages.prepare", *options)
        numbers = json.loads((Path(folder) / "metrics/prepare.json").read_text())
        secrets = scan(path)
        found = numbers["findings"]
    inside = numbers["seconds"]
    seconds = {"all": whole.seconds, "read": inside["rows"] - secrets, "secrets": secrets}
    seconds |= {"tokens": inside["tokens"], "near": inside["near_duplicates"]}
    near = found.get("near_duplicate", 0) + found.get("leak", 0)
    return {
        "rows": rows,
        "seconds": seconds,
        "peak_bytes": whole.peak,
        "near": near,
        "findings": found,
    }


def scan(path: Path) -> float:
    """Return the seconds of the scan for secrets alone."""
    seconds = 0.0
    with path.open("rb") as file:
        for line in file:
            messages = orjson.loads(line)["messages"]
            started = time.perf_counter()
            for text in strings(messages):
                kinds_of_secrets(text)
            seconds += time.perf_counter() - started
    return seconds


def make_rows(path: Path, count: int, seed: int = 42) -> None:
    """Write chats with a system message, a question of 20 to 60 words and an answer of 3 to 30."""
    draws = random.Random(seed)
    system = {"role": "system", "content": "Answer the question in a few words."}
    earlier: list[tuple[str, str]] = []
    with path.open("wb") as file:
        for _ in range(count):
            question, answer = (
                " ".join(draws.choices(WORDS, k=draws.randint(*span)))
                for span in ((20, 60), (3, 30))
            )
            again = draws.random()
            if earlier and again < 0.02:  # noqa: PLR2004
                question, answer = draws.choice(earlier)
                if again < 0.01:  # noqa: PLR2004
                    question = f"{question} {draws.choice(WORDS)}"
            elif len(earlier) < 1000:  # noqa: PLR2004
                earlier.append((question, answer))
            messages = [
                system,
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            file.write(orjson.dumps({"messages": messages}, option=orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
