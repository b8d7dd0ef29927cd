"""Run the whole default pipeline on data sets that its recipe was not made for.

    python -m benchmarks.tasks               # all data sets, which takes hours
    python -m benchmarks.tasks food crepe    # two data sets

Each data set runs in a fresh clone of HEAD. It leaves the numbers of its report in
`benchmarks/results/tasks/<name>.json`, the page in `<name>.html` and its look at the test rows in
`data/test_looks`. A data set that has a result does not run again. Prints one line per data set.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.table import show
from stages.core.data.looks import LEDGER
from stages.core.data.verdict import read_verdict
from stages.core.entrypoint import make_parser, tool_main

RESULTS = Path("benchmarks/results/tasks")
ANOTHER_SET = "data.source.member=evals/registry/data/{0}/samples.jsonl"
"""Replaces the set that the option `food` reads with any other set of the `evals` wheel."""

COMMON = ("evaluate.forgetting=false",)  # the verdict does not depend on it

TASKS: dict[str, tuple[str, ...]] = {
    "food": ("data=food",),
    "bias-detection": ("data=bias-detection",),
    "sql": ("data=sql",),
    "finance-ner": ("data=finance-ner",),
    "crepe": (
        "data=food",
        "prompt=as-given",
        "prompt.max_new_tokens=8",
        "checks.max_leak_fraction=0.2",
        "data.limit=800",
    ),
    "soc_codes": (
        "data=food",
        "prompt=as-given",
        "prompt.max_new_tokens=32",
        "evaluate=text",
        "data.label_column=null",
        "data.limit=1000",
    ),
    "bulgarian-lexicon": ("data=food", "prompt=as-given", "prompt.max_new_tokens=4"),
}


@tool_main("tasks")
def main() -> None:
    """Run the data sets that have no result yet, then print all results."""
    parser = make_parser("benchmarks.tasks", __doc__)
    parser.add_argument("names", nargs="*", default=list(TASKS), help=", ".join(TASKS))
    names = parser.parse_args().names
    for name in names:
        if not (RESULTS / f"{name}.json").exists():
            judge(name)
    show([summarise(name, json.loads((RESULTS / f"{name}.json").read_text())) for name in names])


def judge(name: str) -> None:
    """Run one data set in a clone of its own and keep its report."""
    overrides = TASKS[name]
    if f"data={name}" not in overrides:
        overrides = (*overrides, f"data.name={name}", ANOTHER_SET.format(name))
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "tuneproof")
        subprocess.run(["git", "clone", "--quiet", str(Path.cwd()), str(clone)], check=True)
        settings = [word for override in (*overrides, *COMMON) for word in ("-S", override)]
        environment = {
            key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"
        }
        started = time.monotonic()
        subprocess.run(["dvc", "exp", "run", *settings], cwd=clone, env=environment, check=True)
        seconds = time.monotonic() - started
        RESULTS.mkdir(parents=True, exist_ok=True)
        report = read_verdict(clone)
        shutil.copy(clone / "reports/verdict.html", RESULTS / f"{name}.html")
        # The looks of a benchmark at the test rows count like any other.
        shutil.copytree(clone / LEDGER, LEDGER, dirs_exist_ok=True)
        (RESULTS / f"{name}.json").write_text(
            json.dumps({"seconds": seconds, **report}, indent=2) + "\n"
        )


def summarise(name: str, report: dict[str, Any]) -> dict[str, str | float]:
    """Return one line of the table."""
    metric = report["primary_metric"]
    arms = report["arms"]
    best = {
        kind: max(((arms[arm][metric]["value"], arm) for arm in report[kind]), default=(0.0, "-"))
        for kind in ("model_free_arms", "prompted_arms")
    }
    tuned = arms[report["candidate"]]
    return {
        "data set": name,
        "rows (groups)": f"{report['rows']} ({report['groups']})",
        "metric": metric,
        "constant": arms["constant"][metric]["value"],
        "best without a model": "{1} {0:.3f}".format(*best["model_free_arms"]),
        "best prompt": "{1} {0:.3f}".format(*best["prompted_arms"]),
        "tuned": tuned[metric]["value"],
        "its commonest answer": f"{tuned['health']['commonest_share']:.0%}",
        "verdict": report["verdict"] + (f": {arm}" if (arm := report["recommended_arm"]) else ""),
        "minutes": report["seconds"] / 60,
    }


if __name__ == "__main__":
    main()
