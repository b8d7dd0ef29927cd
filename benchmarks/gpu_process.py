"""Run a part of `benchmarks.gpu_check` in a process that ends in time."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

TIME_UP = "not run: time was up"
LONGEST = 120  # characters of an error


def run_process(module: str, argument: str, seconds: float, end: float) -> dict[str, Any]:
    """Run a module of this folder and return the JSON object on its last line.

    Args:
        module: The name of the module.
        argument: Its only argument.
        seconds: After which the process is given up.
        end: When everything has to end, by `time.monotonic`.

    Returns:
        The object as `found`. Or `why` it is missing, and whether it was `cut` by `end`.
    """
    left = end - time.monotonic()
    if left <= 0:
        return {"why": TIME_UP, "cut": True}
    command = [sys.executable, "-m", f"benchmarks.{module}", argument]
    limit = min(left, seconds)
    # In a session of its own, so that the processes that it starts end with it.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        if left < seconds:
            return {"why": f"{TIME_UP} after {limit:.0f} s of it", "cut": True}
        return {"why": f"not finished after {limit:.0f} s", "cut": False}
    finally:
        end_session(process)
    if process.returncode == 0:
        return {"found": json.loads(output.splitlines()[-1])}
    lines = errors.strip().splitlines() or [f"exit status {process.returncode}"]
    return {"why": lines[-1][:LONGEST], "cut": False}


def end_session(process: "subprocess.Popen[str]") -> None:
    """End a process and those that it has started, if any of them is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
