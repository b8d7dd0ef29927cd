"""Measure how threads should wait for each other: trainings alone, and two side by side.

    python -m benchmarks.threads        # three rounds, after `dvc repro prepare`

Each training is a dry run of the default, two steps. Prints tokens/s for each setting, in rounds
that alternate the settings, because the speed of a shared machine changes from minute to minute.
"""

import os
import re
import subprocess
import sys
from collections import defaultdict

from stages.core.entrypoint import tool_main

SETTINGS = {
    "as Tuneproof sets it": {},
    "OpenMP's default": {"GOMP_SPINCOUNT": "300000"},
    "1,000 spins": {"GOMP_SPINCOUNT": "1000"},
    "no spins": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
COMMAND = (sys.executable, "-m", "stages.train", "train.dry_run=true", "tracking=disabled")
RATE = re.compile(r"([\d.,]+) tokens/s")


@tool_main("threads")
def main() -> None:
    """Run all rounds and print the rates."""
    found: dict[str, list[str]] = defaultdict(list)
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        for name, setting in SETTINGS.items():
            found[f"{name}, alone"] += measure(setting, 1)
            found[f"{name}, each of two"] += measure(setting, 2)
    for name, rates in found.items():
        print(f"{name:36} {' '.join(rates)}")  # noqa: T201


def measure(setting: dict[str, str], count: int) -> list[str]:
    """Return the tokens/s of trainings that run at the same time."""
    taken = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {key: value for key, value in os.environ.items() if key not in taken} | setting
    started = [
        subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    said = [process.communicate()[1] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(said[0])
    return [RATE.findall(text)[-1] for text in said]


if __name__ == "__main__":
    main()
