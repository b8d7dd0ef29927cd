"""Measure a newcomer's first run: `make install` and `make repro` in a clone without a cache.

    python -m benchmarks.pipeline            # in a temporary folder
    python -m benchmarks.pipeline FOLDER     # in FOLDER, which stays

Clones HEAD and starts with an empty cache. Writes `benchmarks/results/pipeline.json` with the
seconds of each command and stage, their peak resident memory with all child processes in bytes, and
the rate of training in non-padding tokens per second. Before and after `make repro` it measures
what the machine does just then (`benchmarks/calibration.py`), so that two runs can be compared.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from stages.core.entrypoint import tool_main

RESULT = Path("benchmarks/results/pipeline.json")
LIMITS = {
    "install_seconds": 150,
    "repro_seconds": 300,
    "repro_peak_bytes": 5e9,
    "noop_seconds": 2,
    "prepare_seconds": 10,
    "answering_seconds": 240,  # the stages baseline and evaluate, without the general suite
    "answering_peak_bytes": 4e9,
    "general_suite_seconds": 120,  # the general suite on the base model and the tuned model
}
ASKING = ("baseline", "evaluate")


@tool_main("pipeline")
def main() -> None:
    """Run everything once and print the measurements beside the project's own limits."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(sys.argv[1] if len(sys.argv) > 1 else folder).resolve())
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    for name, value in found.items():
        limit = f"   limit {LIMITS[name]:,.0f}" if name in LIMITS else ""
        print(f"{name:28} {value:16,.1f}{limit}")  # noqa: T201


def measure(folder: Path) -> dict[str, Any]:
    """Clone HEAD into a folder and run a newcomer's commands there."""
    clone = folder / "tuneproof"
    subprocess.run(["git", "clone", "--quiet", str(Path.cwd()), str(clone)], check=True)
    environment = {**os.environ, "TUNEPROOF_CACHE": f"{folder}/cache", "HF_HOME": f"{folder}/hf"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    found: dict[str, Any] = {"install_seconds": run(clone, environment, "make", "install").seconds}
    found["calibration_before"] = calibrate(clone)
    repro = run(clone, environment, "make", "repro")
    found["calibration_after"] = calibrate(clone)
    found["repro_seconds"] = repro.seconds
    found["repro_peak_bytes"] = repro.peak
    for stage, (seconds, peak) in repro.stages.items():
        found[f"{stage}_stage_seconds"] = seconds
        found[f"{stage}_peak_bytes"] = peak
    numbers = {
        stage: json.loads((clone / f"metrics/{stage}.json").read_text())
        for stage in (*ASKING, "train")
    }
    found["general_suite_seconds"] = sum(
        numbers[stage]["general_suite_seconds"] for stage in ASKING
    )
    found["answering_seconds"] = (
        sum(repro.stages[stage][0] for stage in ASKING) - found["general_suite_seconds"]
    )
    found["answering_peak_bytes"] = max(repro.stages[stage][1] for stage in ASKING)
    environment["PATH"] = f"{clone}/.venv/bin{os.pathsep}{environment['PATH']}"
    found["noop_seconds"] = min(run(clone, environment, "dvc", "repro").seconds for _ in range(3))
    found["prepare_seconds"] = run(clone, environment, "python", "-m", "stages.prepare").seconds
    found["training_tokens_per_second"] = numbers["train"]["tokens_per_second"]
    return found


def calibrate(clone: Path) -> float:
    """Return the tokens per second of the fixed loop, with the clone's own environment."""
    command = [f"{clone}/.venv/bin/python", "-m", "benchmarks.calibration"]
    return float(subprocess.check_output(command, text=True).split()[0])


@dataclass
class Measured:
    """Measurements of a command and all its descendants."""

    seconds: float = 0.0
    peak: int = 0
    """Peak resident memory in bytes."""
    stages: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Seconds and peak resident memory of the stages that it ran."""


def run(folder: Path, environment: dict[str, str], *command: str) -> Measured:
    """Run a command to its end and sample its processes twice a second, more often at the start."""
    started = time.perf_counter()
    found = Measured()
    begun: dict[str, float] = {}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    while process.poll() is None:
        resident, stage = look(process.pid)
        found.peak = max(found.peak, resident)
        if stage:
            now = time.perf_counter()
            seconds = now - begun.setdefault(stage, now)
            found.stages[stage] = seconds, max(resident, found.stages.get(stage, (0, 0))[1])
        time.sleep(0.5 if time.perf_counter() - started > 5 else 0.01)  # noqa: PLR2004
    if process.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed with exit status {process.returncode}")
    found.seconds = time.perf_counter() - started
    return found


def look(pid: int) -> tuple[int, str | None]:
    """Return the resident bytes of a process and its descendants, and the stage among them."""
    total = 0
    stage = None
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0, None
    for process in family:
        try:
            total += process.memory_info().rss
            words = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        stage = next(
            (word.removeprefix("stages.") for word in words if word.startswith("stages.")), stage
        )
    return total, stage


if __name__ == "__main__":
    main()
