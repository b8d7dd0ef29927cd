"""Measure what a newcomer waits for: a fresh clone of HEAD, an empty cache, `make install`, `make repro`.

    python -m benchmarks.pipeline            # in a temporary folder
    python -m benchmarks.pipeline FOLDER     # in FOLDER, which stays

Writes `benchmarks/results/pipeline.json`: seconds of each command, the peak
resident memory of `make repro` with all its children (bytes), the rate of training (non-padding tokens a second).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

RESULT = Path("benchmarks/results/pipeline.json")
LIMITS = {
    "install_seconds": 150,
    "repro_seconds": 480,
    "repro_peak_bytes": 5e9,
    "noop_seconds": 2,
    "prepare_seconds": 10,
}


def main() -> None:
    """Run everything once and compare it with the limits that the project set itself."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(sys.argv[1] if len(sys.argv) > 1 else folder).resolve())
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    for name, value in found.items():
        print(f"{name:28} {value:16,.1f}" + (f"   limit {LIMITS[name]:,.0f}" if name in LIMITS else ""))  # noqa: T201


def measure(folder: Path) -> dict[str, Any]:
    """Clone HEAD into `folder` and run a newcomer's commands there."""
    clone = folder / "tuneproof"
    subprocess.run(["git", "clone", "--quiet", str(Path.cwd()), str(clone)], check=True)
    environment = {**os.environ, "TUNEPROOF_CACHE": f"{folder}/cache", "HF_HOME": f"{folder}/hf"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    found: dict[str, Any] = {"install_seconds": run(clone, environment, "make", "install")[0]}
    found["repro_seconds"], found["repro_peak_bytes"] = run(clone, environment, "make", "repro")
    environment["PATH"] = f"{clone}/.venv/bin{os.pathsep}{environment['PATH']}"
    found["noop_seconds"] = min(run(clone, environment, "dvc", "repro")[0] for _ in range(3))
    found["prepare_seconds"] = run(clone, environment, "python", "-m", "stages.prepare")[0]
    training = json.loads((clone / "metrics/train.json").read_text())
    found["training_tokens_per_second"] = training["tokens_per_second"]
    found["training_peak_bytes"] = training["peak_memory_bytes"]
    return found


def run(folder: Path, environment: dict[str, str], *command: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of a command and all its descendants, looked at twice a second."""
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=folder, env=environment)
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.5 if time.perf_counter() - started > 5 else 0.01)  # noqa: PLR2004
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - started, peak


def resident(pid: int) -> int:
    """Resident bytes of a process and its descendants."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


if __name__ == "__main__":
    main()
