"""Check training on a GPU: is it right, and how fast is it? It takes at most 20 minutes.

    make gpu-check                           # on a machine with an NVIDIA GPU
    python -m benchmarks.gpu_check           # the same, without installing anything
    python -m benchmarks.gpu_check --rehearse    # all of it at toy sizes on a CPU, for its code

Needs no data and no download: the models have the shapes of known ones and random weights, and the
rows are random tokens. Correctness comes first, with the tests that need a GPU, then the rates, the
most important first. Each part is a process that ends when the time is up. The table names what was
not run, with the reason. The result is a Markdown table in `benchmarks/results/gpu-check.md`, with
what the machine is. The exit status is 1 if a check failed.

Rates are tokens per second without padding, after two optimizer steps of 65,536 tokens in which
kernels are chosen, compiled and given their memory. TRL trains the same rows in its own ways, with
flash-attn if it is installed and with the same kernel as the stage otherwise. Liger and bitsandbytes
take part if they are installed, and Unsloth if `TUNEPROOF_BENCHMARK_PYTHON` names an interpreter
that has it. A profile counts where a step waits for the GPU, by line.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu_cases import Case, get_cases, get_missing
from benchmarks.gpu_correctness import Check, get_checks
from benchmarks.gpu_process import TIME_UP, run_process
from benchmarks.gpu_rates import measure
from benchmarks.gpu_table import describe
from benchmarks.others import has_gpu
from stages.core.entrypoint import make_parser

RESULTS = Path("benchmarks/results")
MINUTES = 20.0
CASE_SECONDS = 150  # after which a case is given up
CHECK_SECONDS = 300  # after which a check has failed


def main() -> None:
    """Run the checks and the rates, write the table and print it."""
    parser = make_parser("benchmarks.gpu_check", __doc__)
    parser.add_argument("--rehearse", action="store_true", help="run all of it at toy sizes")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="when to stop")
    asked = parser.parse_args()
    if not asked.rehearse and not has_gpu():
        sys.exit("gpu_check needs a GPU, but torch sees none; --rehearse runs its code without one")
    end = time.monotonic() + 60 * asked.minutes
    with stand_in(asked.rehearse and not has_gpu()):
        checks = [
            run_check(name, check, asked.rehearse, end)
            for name, check in get_checks(asked.rehearse).items()
        ]
        rates = [run_case(case, asked.rehearse, end) for case in get_cases(asked.rehearse)]
    text = describe(checks, rates, asked.rehearse)
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = "gpu-check-rehearsal.md" if asked.rehearse else "gpu-check.md"
    (RESULTS / name).write_text(text)
    print(text)  # noqa: T201
    if any(check.passed is False for check in checks):
        sys.exit(1)


@contextmanager
def stand_in(wanted: bool) -> Iterator[None]:
    """Replace PyTorch's kernel by one for a CPU, and compile nothing, which would take minutes."""
    if not wanted:
        yield
        return
    import torch

    from benchmarks.varlen_stand_in import varlen_attn
    from stages.train.trainers import varlen_attention

    kernel = varlen_attention.varlen_attn
    varlen_attention.varlen_attn = varlen_attn  # type: ignore[assignment]
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        varlen_attention.varlen_attn = kernel


def run_check(name: str, check: Callable[[], Check], rehearsal: bool, end: float) -> Check:
    """Run a check in a process of its own, or in this one for a rehearsal.

    An error is a check that failed, and the others still run.
    """
    if time.monotonic() >= end:
        done = Check(name, None, TIME_UP)
    elif rehearsal:
        done = run_here(name, check)
    else:
        told = run_process("gpu_correctness", name, CHECK_SECONDS, end)
        failed = Check(name, None if told.get("cut") else False, told.get("why", ""))
        done = Check(*told["found"]) if "found" in told else failed
    words = {True: "passed", False: "FAILED", None: "------"}
    print(f"{words[done.passed]}  {name}: {done.found}", flush=True)  # noqa: T201
    return done


def run_here(name: str, check: Callable[[], Check]) -> Check:
    """Run a check in this process."""
    try:
        return check()
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}".splitlines()[0])


def run_case(case: Case, rehearsal: bool, end: float) -> dict[str, Any]:
    """Measure a case in a process of its own, or in this one for a rehearsal."""
    missing = get_missing(case)
    if missing or time.monotonic() >= end:
        found: dict[str, Any] = {"why": missing or TIME_UP}
    elif rehearsal:
        found = measure(case)
    else:
        told = run_process("gpu_rates", json.dumps(asdict(case)), CASE_SECONDS, end)
        found = told.get("found") or {"why": told["why"]}
    print(case.shape, case.rows, case.contender, found, flush=True)  # noqa: T201
    return {"model": case.shape, "rows": case.rows, "contender": case.contender, **found}


if __name__ == "__main__":
    main()
