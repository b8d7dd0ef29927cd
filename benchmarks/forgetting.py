"""Measure what tuning costs of the general abilities, and what each remedy keeps.

    python -m benchmarks.forgetting                               # all of it, which takes hours
    python -m benchmarks.forgetting --data food --seeds 42 43     # one data set, two seeds
    python -m benchmarks.forgetting --variants none "replay 20 %"

Each data set is prepared and prompted once in a clone of HEAD. Each variant then trains one model for
each seed. Every model answers the test rows and the general suite. A variant that has a result in
`benchmarks/results/forgetting` does not run again, so a killed benchmark continues where it was.

All variants answer the same test rows. So use the table to compare them, and not to conclude how
good one of them is.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import show
from stages.core.entrypoint import tool_main
from stages.core.statistics.bounds import compare, estimate_metric
from stages.core.statistics.scores import Scores

RESULTS = Path("benchmarks/results/forgetting").resolve()
CONFIDENCE = 0.95
DATA = ("question-types", "food")
VARIANTS: dict[str, tuple[str, ...]] = {
    "none": (),
    **{f"replay {n} %": (f"train.replay.fraction={n / 100}",) for n in (5, 10, 20, 40)},
    "replay 25 %, 60 % of the loss": (
        "train.replay.fraction=0.25",
        "train.replay.loss_fraction=0.6",
    ),
    "replay 40 %, 70 % of the loss": (
        "train.replay.fraction=0.4",
        "train.replay.loss_fraction=0.7",
    ),
    "half the rate": ("train.args.learning_rate=5e-4",),
    "a tenth of the rate": ("train.args.learning_rate=1e-4",),
    "attention alone": ("train.adapter.target_modules=[q_proj,k_proj,v_proj,o_proj]",),
    "queries and values": ("train.adapter.target_modules=[q_proj,v_proj]",),
}


@tool_main("forgetting")
def main() -> None:
    """Measure the variants that have no result yet, then print the table of each data set."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.forgetting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", nargs="+", default=DATA, help="options of the group `data`")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    asked = parser.parse_args()
    for data in asked.data:
        folder = RESULTS / data
        folder.mkdir(parents=True, exist_ok=True)
        for variant in asked.variants:
            if not get_file(data, variant).exists():
                measure(data, variant, asked.seeds)
        found = {name: get_file(data, name) for name in VARIANTS if get_file(data, name).exists()}
        results = {name: json.loads(path.read_text()) for name, path in found.items()}
        if "none" in results:
            show([summarize(name, result, results["none"]) for name, result in results.items()])
            off = np.mean(results["none"]["switched_off"]["suite"])
            base = np.mean(results["none"]["base"]["suite"])
            # The report of a benchmark is its output.
            print(f"{data}: suite {base:.3f} before, {off:.3f} with the adapter switched off")  # noqa: T201


def get_file(data: str, variant: str) -> Path:
    """Return the file with the result of a variant."""
    name = re.sub(r"\W+", "-", variant)
    return RESULTS / data / f"{name}.json"


def measure(data: str, variant: str, seeds: Sequence[int]) -> None:
    """Train a variant with each seed, ask its models, and write the result."""
    clone = RESULTS / data / "tuneproof"
    if not (clone / "predictions/choices.json").exists():
        subprocess.run(["git", "clone", "--quiet", str(Path.cwd()), str(clone)], check=True)
        for stage in ("prepare", "baseline"):
            run(clone, f"stages.{stage}", f"data={data}")
    first, *others = seeds
    overrides = (f"data={data}", f"seed={first}", f"train.seeds={others}", *VARIANTS[variant])
    run(clone, "stages.train", *overrides)
    partial = get_file(data, variant).with_suffix(".partial")
    run(clone, "benchmarks.forgetting_worker", str(partial), *overrides)
    partial.rename(get_file(data, variant))


def run(clone: Path, module: str, *arguments: str) -> None:
    """Run a module in the clone."""
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=clone, check=True)


def summarize(name: str, result: dict[str, Any], none: dict[str, Any]) -> dict[str, str]:
    """Return one line of the table.

    The share of the gain is that of the gain of `none` over the best prompted arm.
    """
    quality = _read(result, "quality")
    suite = _read(result, "suite")
    base = _as_scores(result["base"]["suite"])
    lost = compare(suite, base).interval(CONFIDENCE)
    value = estimate_metric(quality, CONFIDENCE)
    gain = estimate_metric(_read(none, "quality"), CONFIDENCE).value - none["prompt"]
    after = np.mean([model["nats"] for model in result["seeds"].values()])
    # It is empty if the chat template adds no system message of its own.
    without_system = [
        right for model in result["seeds"].values() for right in model["without_system"]
    ]
    seconds = np.mean([model["seconds"] for model in result["seeds"].values()])
    return {
        "variant": name,
        "seeds": str(len(quality)),
        "quality": f"{value.value:.3f} ({value.ci_low:.3f} to {value.ci_high:.3f})",
        "of the gain": f"{(value.value - none['prompt']) / gain:.0%}" if gain > 0 else "no gain",
        "suite": f"{estimate_metric(suite, CONFIDENCE).value:.3f}",
        "change": f"{lost.value:+.3f} ({lost.ci_low:+.3f} to {lost.ci_high:+.3f})",
        "without system": f"{np.mean(without_system):.3f}" if without_system else "the same",
        "perplexity": f"times {np.exp(after - result['base']['nats']):.2f}",
        "training": f"{seconds:.0f} s",
    }


def _read(result: dict[str, Any], key: str) -> list[Scores]:
    """Read the scores of each seed's model."""
    return [_as_scores(model[key]) for model in result["seeds"].values()]


def _as_scores(values: Sequence[float]) -> Scores:
    return Scores(np.column_stack([values, np.ones(len(values))]).astype(float))


if __name__ == "__main__":
    main()
