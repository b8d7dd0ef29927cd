"""Measure what a newcomer waits for: a fresh clone of HEAD, an empty cache, `make install`, `make repro`.

    python -m benchmarks.pipeline

Clones into a temporary folder, and writes `benchmarks/results/pipeline.json`: seconds of each command, the peak
resident memory of `make repro` with all its children (bytes), the rate of training (non-padding tokens a second).
"""

import json
import os
import subprocess
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
    root = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "tuneproof"
        subprocess.run(["git", "clone", "--quiet", str(root), str(clone)], check=True)
        environment = {**os.environ, "TUNEPROOF_CACHE": f"{folder}/cache", "HF_HOME": f"{folder}/hf"}
        environment.pop("MLFLOW_TRACKING_URI", None)

        def timed(*command: str) -> tuple[float, int]:
            return run(clone, environment, *command)

        found: dict[str, Any] = {"install_seconds": timed("make", "install")[0]}
        found["repro_seconds"], found["repro_peak_bytes"] = timed("make", "repro")
        path = f"{clone}/.venv/bin{os.pathsep}{environment['PATH']}"
        environment["PATH"] = path
        found["noop_seconds"] = min(timed("dvc", "repro")[0] for _ in range(3))
        found["prepare_seconds"] = timed("python", "-m", "stages.prepare")[0]
        training = json.loads((clone / "metrics/train.json").read_text())
        found["training_tokens_per_second"] = training["tokens_per_second"]
        found["training_peak_bytes"] = training["peak_memory_bytes"]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    for name, value in found.items():
        print(f"{name:28} {value:16,.1f}" + (f"   limit {LIMITS[name]:,.0f}" if name in LIMITS else ""))  # noqa: T201


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
