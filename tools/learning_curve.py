"""Train on parts of the training rows and fit a learning curve: would more data help?

    python -m tools.learning_curve                   # 25, 50 and 100 % of the rows, two seeds each
    python -m tools.learning_curve 0.1 0.3 1         # other shares of the rows
    python -m tools.learning_curve --seeds 43 44     # the global seed and these seeds

The largest share trains as `params.yaml` says. Smaller shares train for as many steps, so that the
points differ only in their rows. Each share is a DVC experiment up to `evaluate`. Whatever does not
depend on the share comes from DVC's cache, and so does a share that has been trained before.

Writes `data/learning_curve.json`, which the report of the next `dvc repro` shows. Commit the file.
"""

import argparse
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import dvc.api
import orjson
from rich.console import Console

from stages.core.config.arms import TUNED_ARM
from stages.core.config.schema import Config, read_params
from stages.core.data.groups import get_groups
from stages.core.data.predictions import Prediction
from stages.core.data.records import SPLITS, Record
from stages.core.entrypoint import make_parser, tool_main
from stages.core.environment.lineage import data_sha256, hardware
from stages.core.environment.repository import git_commit
from stages.core.errors import UserError
from stages.core.metrics.metrics import Metrics
from stages.core.models.candidates import get_candidate
from stages.core.storage.files import write_json
from stages.evaluate.analysis.curve import FILE, Point, fit_curve, get_curve_key

SHARES = (0.25, 0.5, 1.0)


@tool_main("learning_curve")
def main() -> None:
    """Run the experiments one after the other, because they share a machine, and fit the curve."""
    arguments = _parse_arguments()
    console = Console(highlight=False)
    shares = _check_shares(arguments.shares)
    config = read_params()
    if config.evaluate.split != "test":
        raise UserError(
            "the curve is measured on test rows: set evaluate.split=test in params.yaml"
        )
    if set(data_sha256()) != set(SPLITS):  # the key of a curve has the hashes of all splits
        raise UserError("data/prepared does not have every split: run `dvc repro prepare` first")
    seeds = arguments.seeds or [config.seed, config.seed + 1]
    config = config.model_copy(update={"train": config.train.model_copy(update={"seeds": seeds})})
    points: list[Point] = []
    same: dict[str, Any] = {}
    for share in reversed(shares):
        name = run(share, seeds, same)
        points.append(get_point(config, share, name))
        same = same or get_steps(name)
    groups = get_groups(read_split("test", name))
    settings = config.evaluate
    curve = fit_curve(points, settings.confidence, config.seed, groups)
    facts = {"metric": settings.primary_metric, "seeds": seeds, "same_for_all": same}
    facts |= {"git_commit": git_commit(), "hardware": hardware()}
    write_json(FILE, {"key": get_curve_key(config), **facts, "curve": curve})
    console.print(f"{settings.primary_metric}: {curve['sentence']}", soft_wrap=True)
    console.print(f"Wrote {FILE}. Run `dvc repro` to add it to the report, then commit both.")


def run(share: float, seeds: Sequence[int], args: Mapping[str, Any]) -> str:
    """Run the experiment of a share in a temporary folder and return its name.

    Args:
        share: The share of the training rows.
        seeds: Seeds of training besides the global one, for `train.seeds`.
        args: Values of `train.args` that override those in `params.yaml`.

    Raises:
        UserError: The experiment failed.
    """
    name = f"curve-{share:g}".replace(".", "-")
    # An earlier call may have left an experiment of this name.
    subprocess.run(["dvc", "exp", "remove", "-q", name], check=False, capture_output=True)
    changes = [f"train.train_fraction={share}", f"train.seeds={orjson.dumps(list(seeds)).decode()}"]
    changes += [f"++train.args.{key}={value}" for key, value in args.items()]
    command = ["dvc", "exp", "run", "--temp", "--no-hydra", "-n", name]
    command += [word for change in changes for word in ("-S", change)]
    Console(highlight=False).print(f"share {share:g}: {' '.join(command)} evaluate")
    if subprocess.run([*command, "evaluate"], check=False).returncode:
        raise UserError(
            f"the experiment {name} failed, see above; trained shares stay in DVC's cache"
        )
    return name


def get_steps(name: str) -> dict[str, Any]:
    """Return the training steps of an experiment and the values it chose for `auto`."""
    numbers = orjson.loads(dvc.api.read("models/tuned/training.json", rev=name))["numbers"]
    return {"max_steps": numbers["steps"], **numbers.get("auto", {})}


def get_point(config: Config, share: float, name: str) -> Point:
    """Score the answers of an experiment's tuned models by the primary metric."""
    from stages.train.examples import subsample  # imports torch

    test = read_split("test", name)
    metric = config.evaluate.primary_metric
    candidate = get_candidate(config, TUNED_ARM)
    scores = []
    for path in map(candidate.get_predictions_file, candidate.seeds):
        answers = [Prediction(**orjson.loads(line)) for line in _lines(str(path), name)]
        scores.append(
            Metrics([metric], config.evaluate.options).score_records(answers, test)[metric]
        )
    return Point(share, len(subsample(read_split("train", name), share, config.seed)), scores)


def read_split(split: str, name: str) -> list[Record]:
    """Read the records of a split from an experiment."""
    return [Record.load(line) for line in _lines(f"data/prepared/{split}.jsonl", name)]


def _lines(path: str, name: str) -> list[bytes]:
    return dvc.api.read(path, rev=name, mode="rb").splitlines()


def _parse_arguments() -> argparse.Namespace:
    parser = make_parser("tools.learning_curve", __doc__)
    parser.add_argument(
        "shares", nargs="*", type=float, help="shares of the training rows (default: 0.25 0.5 1)"
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        help="seeds of training besides the global seed (default: the next one)",
    )
    return parser.parse_args()


def _check_shares(given: Sequence[float]) -> list[float]:
    shares = sorted(set(given) or set(SHARES))
    if len(shares) < 2 or not all(0 < share <= 1 for share in shares):  # noqa: PLR2004
        raise UserError(
            f"give at least two shares above 0 and at most 1, got {' '.join(map(str, given))}"
        )
    return shares


if __name__ == "__main__":
    main()
