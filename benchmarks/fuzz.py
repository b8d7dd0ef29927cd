"""Look for files, rows and chats that break `prepare`, with values that hypothesis draws.

    python -m benchmarks.fuzz --seconds 600
    python -m benchmarks.fuzz --only rows --seed 1234 --rounds 1   # repeats a failure

Each round draws 200 examples for each target with a seed of its own. The script prints the failures,
each with its seed and its smallest example, and how many examples it tried. It exits with 1 if there
are failures. `benchmarks/fuzz_targets.py` says what must hold.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from benchmarks.fuzz_targets import OVERRIDES, TARGETS
from stages.core.entrypoint import make_parser

EXAMPLES = 200  # in a round


def main() -> None:
    """Run rounds until the time is over, and print the failures and the counts."""
    parser = make_parser("benchmarks.fuzz", __doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--rounds", type=int, default=10**9)
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--model", default="tiny-random", help="whose tokenizer reads the chats")
    options = parser.parse_args()
    OVERRIDES.append(f"model={options.model}")
    end = time.monotonic() + options.seconds
    tried: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for number in count(options.seed):
        for name in [options.only] if options.only else TARGETS:
            error = run(name, number, EXAMPLES, tried)
            if error and not failures[place(error)]:
                trace = "".join(traceback.format_exception(error))
                print(f"FAILED {name}, seed {number}:\n{trace}", flush=True)  # noqa: T201
            if error:
                failures[place(error)] += 1
        if time.monotonic() > end or number + 1 >= options.seed + options.rounds:
            break
    print(f"seeds {options.seed} to {number}, examples {dict(tried)}, failures {dict(failures)}")  # noqa: T201
    raise SystemExit(bool(failures))


def run(name: str, seed: int | None, examples: int, tried: Counter[str]) -> Exception | None:
    """Draw examples for a target.

    Args:
        name: The target.
        seed: The seed of the draws. With None they are the same on every machine.
        examples: The number of examples.
        tried: Counts the examples.

    Returns:
        The error of the smallest example that breaks the target, or None.
    """
    check, strategies = TARGETS[name]

    def attempt(drawn: tuple[Any, ...]) -> None:
        tried[name] += 1
        check(*drawn)

    test: Callable[[], None] = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=seed is None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )(hypothesis.given(st.tuples(*strategies))(attempt))
    try:
        (hypothesis.seed(seed)(test) if seed is not None else test)()
    except Exception as error:  # any exception is a finding
        return error
    return None


def place(error: Exception) -> str:
    """Name the line of the project that raised an error."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "/site-packages/" not in f.filename
    ]
    last = frames[-1]
    return f"{type(error).__name__} at {last.filename.rpartition('/')[2]}:{last.lineno}"


if __name__ == "__main__":
    main()
