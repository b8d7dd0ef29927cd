"""Measure what tuning costs of the general abilities, and what each remedy keeps.

    python -m benchmarks.forgetting                               # all of it, which takes hours
    python -m benchmarks.forgetting --data food --seeds 42 43     # one data set, two seeds
    python -m benchmarks.forgetting --variants none "replay 20 %"

Each data set is prepared and prompted once in a clone of HEAD. Each variant then trains one model for
each seed. Every model answers the test rows and the general suite. A seed of a variant that has a
result in `benchmarks/results/forgetting` does not run again, so a killed benchmark continues where it
was.

`against none` and `of the gain` compare with the models of `none` that have the same seeds. The gain is
that of `none` over the best prompted arm.

The column `targets elsewhere` is the share of prompts of other data sets that a model answers with a
target of its task (`benchmarks/other_prompts.py`).

All variants answer the same test rows. So use the table to compare them, and not to conclude how
good one of them is.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import show
from stages.core.entrypoint import make_parser, tool_main
from stages.core.environment.processes import ended_by_sigterm
from stages.core.statistics.bounds import Estimate, compare, estimate_metric
from stages.core.statistics.scores import Scores
from stages.core.storage.files import read_json

RESULTS = Path("benchmarks/results/forgetting").resolve()
BASE = "base.json"
CONFIDENCE = 0.95
Results = dict[int, dict[str, Any]]
"""What was measured with each seed."""
DATA = ("question-types", "food")
LOSS = "train.replay.loss_fraction=0.6"
VARIANTS: dict[str, tuple[str, ...]] = {
    "none": (),
    **{f"replay {n} %": (f"train.replay.fraction={n / 100}", LOSS) for n in (5, 10, 20, 40)},
    "replay 20 %, answers learned": (
        "train.replay.fraction=0.2",
        "train.replay.loss=nll",
        LOSS,
    ),
    "half the rate": ("train.args.learning_rate=5e-4",),
    "a tenth of the rate": ("train.args.learning_rate=1e-4",),
    "attention alone": ("train.adapter.target_modules=[q_proj,k_proj,v_proj,o_proj]",),
    "queries and values": ("train.adapter.target_modules=[q_proj,v_proj]",),
}


@tool_main("forgetting")
def main() -> None:
    """Measure the variants that have no result yet, then print the table of each data set."""
    parser = make_parser("benchmarks.forgetting", __doc__)
    parser.add_argument("--data", nargs="+", default=DATA, help="options of the group `data`")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    asked = parser.parse_args()
    with ended_by_sigterm():  # else the training that runs now would run on
        for data in asked.data:
            # Every variant has a result of one seed before the next seed begins.
            for seed, variant in product(asked.seeds, asked.variants):
                if not get_file(data, variant, seed).exists():
                    measure(data, variant, seed)
            print_table(data)


def get_file(data: str, variant: str, seed: int | str) -> Path:
    """Return the file with the result of a variant and a seed."""
    name = re.sub(r"\W+", "-", variant)
    return RESULTS / data / f"{name}.{seed}.json"


def measure(data: str, variant: str, seed: int) -> None:
    """Train a variant with a seed, ask its model, and write the result.

    The first training of a data set also measures what is the same for all of them.
    """
    folder = RESULTS / data
    clone = folder / "tuneproof"
    folder.mkdir(parents=True, exist_ok=True)
    if not (clone / "predictions/choices.json").exists():
        subprocess.run(["git", "clone", "--quiet", str(Path.cwd()), str(clone)], check=True)
        for stage in ("prepare", "baseline"):
            run(clone, f"stages.{stage}", f"data={data}")
    overrides = (f"data={data}", f"seed={seed}", *VARIANTS[variant])
    run(clone, "stages.train", *overrides)
    if not (folder / BASE).exists():
        run(clone, "benchmarks.forgetting_worker", "base", str(folder / BASE), *overrides)
    file = get_file(data, variant, seed)
    run(clone, "benchmarks.forgetting_worker", "tuned", str(file), *overrides)


def run(clone: Path, module: str, *arguments: str) -> None:
    """Run a module in the clone."""
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=clone, check=True)


def print_table(data: str) -> None:
    """Print the table of a data set from the results that are there."""
    found = {variant: read_results(data, variant) for variant in VARIANTS}
    if not found["none"]:
        return
    base = read_json(RESULTS / data / BASE)
    show([summarize(name, seeds, found["none"], base) for name, seeds in found.items() if seeds])
    before = np.mean(base["before"]["suite"])
    off = np.mean(base["switched_off"]["suite"])
    # The report of a benchmark is its output.
    print(f"{data}: suite {before:.3f} before, {off:.3f} with the adapter switched off")  # noqa: T201


def read_results(data: str, variant: str) -> Results:
    """Read the results of a variant by their seeds."""
    files = sorted((RESULTS / data).glob(get_file(data, variant, "*").name))
    return {int(file.suffixes[-2].removeprefix(".")): read_json(file) for file in files}


def summarize(name: str, found: Results, plain: Results, base: dict[str, Any]) -> dict[str, str]:
    """Return one line of the table.

    Args:
        name: The variant.
        found: Its results by their seeds.
        plain: The results of `none` by their seeds.
        base: The results before training.
    """
    seeds = list(found.values())
    suite = estimate(seeds, "suite")
    before = _as_scores(base["before"]["suite"])
    lost = compare([_as_scores(seed["suite"]) for seed in seeds], before).interval(CONFIDENCE)
    nats = np.mean([seed["nats"] for seed in seeds])
    # It is empty if the chat template adds no system message of its own.
    without_system = [right for seed in seeds for right in seed["without_system"]]
    return {
        "variant": name,
        "seeds": str(len(seeds)),
        "quality": _show(estimate(seeds, "quality"), ""),
        **compare_quality(found, plain, base["prompt"]),
        "suite": f"{suite.value:.3f}",
        "change": _show(lost, "+"),
        "without system": f"{np.mean(without_system):.3f}" if without_system else "the same",
        "targets elsewhere": f"{np.mean([seed['targets_elsewhere'] for seed in seeds]):.0%}",
        "perplexity": f"times {np.exp(nats - base['before']['nats']):.2f}",
        "training": f"{np.mean([seed['seconds'] for seed in seeds]):.0f} s",
    }


def compare_quality(found: Results, plain: Results, prompt: float) -> dict[str, str]:
    """Compare the quality of a variant with that of `none` with the same seeds.

    Seeds differ by more than variants, so a mean over other seeds would be no measure. The interval
    takes the seeds of both as independent, and so it is rather too wide.

    Args:
        found: The results of the variant by their seeds.
        plain: The results of `none` by their seeds.
        prompt: The quality of the best prompted arm.
    """
    if found == plain:
        return {"against none": "", "of the gain": ""}
    if not found.keys() <= plain.keys():
        return {"against none": "unknown", "of the gain": "unknown"}
    ours = [_as_scores(seed["quality"]) for seed in found.values()]
    theirs = [_as_scores(plain[seed]["quality"]) for seed in found]
    change = compare(ours, theirs).interval(CONFIDENCE)
    gain = float(np.mean([scores.value for scores in theirs])) - prompt
    kept = f"{(gain + change.value) / gain:.0%}" if gain > 0 else "no gain"
    return {"against none": _show(change, "+"), "of the gain": kept}


def _show(found: Estimate, sign: str) -> str:
    return f"{found.value:{sign}.3f} ({found.ci_low:{sign}.3f} to {found.ci_high:{sign}.3f})"


def estimate(seeds: Sequence[dict[str, Any]], key: str) -> Estimate:
    """Estimate the mean of a score over rows and seeds."""
    return estimate_metric([_as_scores(seed[key]) for seed in seeds], CONFIDENCE)


def _as_scores(values: Sequence[float]) -> Scores:
    return Scores(np.column_stack([values, np.ones(len(values))]).astype(float))


if __name__ == "__main__":
    main()
