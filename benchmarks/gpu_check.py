"""Check training on a GPU: is it right, and how fast is it? It takes at most 20 minutes.

    make gpu-check                           # the tests with the marker `gpu`, and then this
    python -m benchmarks.gpu_check           # on a machine with an NVIDIA GPU
    python -m benchmarks.gpu_check --rehearse    # all of it at toy sizes on a CPU, for its code

Needs no data and no download: the models have the shapes of known ones and random weights, and the
rows are random tokens. Correctness comes first, then the rates, the most important first. What is
left when the time is up is named. The result is a Markdown table in
`benchmarks/results/gpu-check.md`, with what the machine is. The exit status is 1 if a check failed.

Rates are tokens per second without padding, after two optimizer steps of 65,536 tokens in which
kernels are chosen, compiled and given their memory. TRL trains the same rows in its own ways, with
flash-attn if it is installed and with the same kernel as the stage otherwise. Liger takes part if
it is installed, and Unsloth if `TUNEPROOF_BENCHMARK_PYTHON` names an interpreter that has it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu_correctness import Check, get_checks
from benchmarks.gpu_rates import Case, measure, to_json
from benchmarks.gpu_shapes import LENGTHS, SHAPES, TOYS
from benchmarks.gpu_unsloth import get_python
from benchmarks.others import has_gpu
from stages.core.entrypoint import make_parser

RESULTS = Path("benchmarks/results")
MINUTES = 20.0
CASE_SECONDS = 150  # after which a case is given up
FIRST = 4  # ways to train that all models take part in
THOUSAND = 1000  # from which numbers have no decimals
COLUMNS = ("tokens/s", "peak GB", "tokens a pass", "loss")


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
        checks = [run_check(name, check) for name, check in get_checks(asked.rehearse).items()]
        rates = [run_case(case, asked.rehearse, end) for case in get_cases(asked.rehearse)]
    text = describe(checks, rates, asked.rehearse)
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = "gpu-check-rehearsal.md" if asked.rehearse else "gpu-check.md"
    (RESULTS / name).write_text(text)
    print(text)  # noqa: T201
    if not all(check.passed for check in checks):
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


def get_cases(rehearsal: bool) -> list[Case]:
    """List what is measured, the most important first.

    The first model takes part in every way, the others in those that matter most.
    """
    pieces = (16, 48, 96) if rehearsal else (768, 16_384, 65_536)
    ways: list[dict[str, Any]] = [
        {"contender": "this stage as on a CPU: padded, few tokens", "attention": "sdpa"}
        | {"tokens": pieces[0]},
        {"contender": "this stage, varlen, auto"},
        {"contender": "TRL, padding-free", "rival": "padding_free"},
        {"contender": "TRL, packed", "rival": "packed"},
        *([{"contender": "Unsloth", "rival": "unsloth"}] * (get_python() is not None)),
        {"contender": "this stage, varlen, 16k", "tokens": pieces[1]},
        {"contender": "this stage, varlen, 64k, recomputed", "tokens": pieces[2]}
        | {"checkpointing": True},
        {"contender": "this stage, padded, 16k", "attention": "sdpa", "tokens": pieces[1]},
        {"contender": "this stage, varlen, auto, compiled", "compiled": True},
        *([{"contender": "this stage, varlen, auto, Liger", "liger": True}] * has_liger()),
        {"contender": "TRL, padded", "rival": "padded", "attention": "sdpa"},
    ]
    names = [shape.name for shape in (TOYS if rehearsal else SHAPES)]
    short, long = LENGTHS
    kinds = [(name, rows) for name in names for rows in (short, long)]
    if rehearsal:
        kinds = kinds[:-1]
    cases = [Case(shape=name, rows=rows, **way) for name, rows in kinds for way in ways[:FIRST]]
    for rows in (short,) if rehearsal else (short, long):
        cases += [Case(shape=names[0], rows=rows, **way) for way in ways[FIRST:]]
    return cases


def has_liger() -> bool:
    """Return whether liger-kernel is installed."""
    return find_spec("liger_kernel") is not None


def run_check(name: str, check: Any) -> Check:
    """Run a check. An error is a check that failed, and the others still run."""
    try:
        done = check()
    except Exception as error:
        done = Check(name, False, f"{type(error).__name__}: {error}".splitlines()[0])
    print(f"{'passed' if done.passed else 'FAILED'}  {name}: {done.found}", flush=True)  # noqa: T201
    return done


def run_case(case: Case, rehearsal: bool, end: float) -> dict[str, Any]:
    """Measure a case in a process of its own, or in this one for a rehearsal."""
    left = end - time.monotonic()
    if left <= 0:
        found: dict[str, Any] = {"why": "not run: time was up"}
    elif rehearsal:
        found = measure(case)
    else:
        found = run_process(case, min(left, CASE_SECONDS))
    print(case.shape, case.rows, case.contender, found, flush=True)  # noqa: T201
    return {"model": case.shape, "rows": case.rows, "contender": case.contender, **found}


def run_process(case: Case, seconds: float) -> dict[str, Any]:
    """Return what the process of a case prints, or why there is nothing."""
    command = [sys.executable, "-m", "benchmarks.gpu_rates", to_json(case)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"why": f"not finished after {seconds:.0f} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return {"why": lines[-1][:120]}


def describe(checks: list[Check], rates: list[dict[str, Any]], rehearsal: bool) -> str:
    """Format the results as Markdown."""
    from stages.core.environment.lineage import hardware, versions

    title = "Rehearsal of the GPU check: the numbers mean nothing" if rehearsal else "GPU check"
    lines = [f"# {title}", "", f"{hardware()}", "", f"{versions()}", ""]
    lines += ["| check | passed | found |", "|---|---|---|"]
    lines += [f"| {c.name} | {'yes' if c.passed else '**no**'} | {c.found} |" for c in checks]
    lines += ["", f"| model | rows | contender | {' | '.join(COLUMNS)} |"]
    lines += ["|---|---|---|" + "---:|" * len(COLUMNS)]
    for row in rates:
        cells = [_format(row.get(column)) for column in COLUMNS]
        if "why" in row:
            cells[0] = row["why"].replace("|", "/")
        lines.append(
            f"| {row['model']} | {row['rows']} | {row['contender']} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def _format(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{0 if value >= THOUSAND else 3}f}"


if __name__ == "__main__":
    main()
