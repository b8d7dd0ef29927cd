"""The tests of the repository that `benchmarks.gpu_check` runs with the GPU in their sight."""

import os
import subprocess
import sys

from benchmarks.gpu_correctness import Check
from benchmarks.others import has_gpu

OPTIONS = "tests/train/test_every_option.py"
BFLOAT16 = "tests/train/test_every_option_in_bfloat16.py"
TESTS = {
    "tests with the marker gpu": ("tests", "-m", "gpu", f"--ignore={BFLOAT16}"),
    "every option of train": (OPTIONS,),
    "every option of train, bfloat16": (BFLOAT16,),
}


def run_tests(name: str, arguments: tuple[str, ...]) -> Check:
    """Run tests. Without a GPU they are not run, because the test suite runs them there."""
    if not has_gpu():
        return Check(name, None, "not run: needs a GPU")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"TUNEPROOF_TEST_GPU": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return Check(name, done.returncode == 0, find_outcome(done.stdout))


def find_outcome(text: str) -> str:
    """Return the failures in the output of pytest, or how much it ran."""
    lines = text.strip().splitlines() or ["no output"]
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return "; ".join(failures[:5]) if failures else lines[-1]
