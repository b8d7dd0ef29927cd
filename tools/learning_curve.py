"""How much more data would help? Train on parts of the rows and fit the curve.

    python -m tools.learning_curve                         # on 25, 50 and 100 % of the training rows, by two seeds each
    python -m tools.learning_curve 0.1 0.3 1               # on other shares
    python -m tools.learning_curve --seeds 42 43 44        # by these seeds and the global one

The largest share is trained as `params.yaml` says; smaller ones for as many steps, so that points differ in the rows
and not in the training. Each share is a DVC experiment up to `evaluate`: what does not depend on the share comes from
the cache, and so does a share that has been trained before. Writes `data/learning_curve.json`, which the report of the
next `dvc repro` shows. Commit it.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import dvc.api
import orjson
from omegaconf import OmegaConf
from rich.console import Console

from stages.core.config.arms import TUNED_ARM
from stages.core.config.schema import Config, parse
from stages.core.data.groups import get_groups
from stages.core.data.predictions import Prediction
from stages.core.data.records import SPLITS, Record
from stages.core.environment.lineage import data_sha256, hardware
from stages.core.environment.repository import git_commit
from stages.core.errors import UserError
from stages.core.metrics.metrics import Metrics
from stages.core.models.candidates import get_candidate
from stages.core.storage.files import write_json
from stages.evaluate.analysis.curve import FILE, Point, fit_curve, get_curve_key
from stages.train.examples import take_share

SHARES = (0.25, 0.5, 1.0)


def main() -> None:
    """Run the experiments one after the other (they share the machine), fit, write, say."""
    arguments = _parse_arguments()
    console = Console(highlight=False)
    try:
        shares = _check_shares(arguments.shares)
        config = parse(OmegaConf.load("params.yaml"))  # type: ignore[arg-type]
        if config.evaluate.split != "test":
            raise UserError(
                "the curve is measured on test rows: run it with evaluate.split=test in params.yaml"
            )
        if set(data_sha256()) != set(SPLITS):  # a curve belongs to its data
            raise UserError("data/prepared is not there: run `dvc repro prepare` first")
        seeds = arguments.seeds or [config.seed, config.seed + 1]
        config = config.model_copy(
            update={"train": config.train.model_copy(update={"seeds": seeds})}
        )
        points: list[Point] = []
        same: dict[str, Any] = {}
        for share in reversed(shares):
            name = run(share, seeds, same)
            points.append(get_point(config, share, name))
            same = same or get_steps(name)
    except (UserError, FileNotFoundError) as error:
        sys.exit(f"learning_curve: {error}")
    groups = get_groups(read_split("test", name))
    settings = config.evaluate
    curve = fit_curve(points, settings.confidence, config.seed, groups)
    facts = {"metric": settings.primary_metric, "seeds": seeds, "same_for_all": same}
    facts |= {"git_commit": git_commit(), "hardware": hardware()}
    write_json(FILE, {"key": get_curve_key(config), **facts, "curve": curve})
    console.print(f"{settings.primary_metric}: {curve['sentence']}", soft_wrap=True)
    console.print(f"{FILE} is written: `dvc repro` puts it into the report; commit both.")


def run(share: float, seeds: Sequence[int], args: Mapping[str, Any]) -> str:
    """Run the experiment of a share in a folder of its own, and return its name.

    Args:
        share: of the training rows.
        seeds: of training, beside the global one.
        args: arguments of training that take the place of those in `params.yaml`.

    Raises:
        UserError: the experiment failed.
    """
    name = f"curve-{share:g}".replace(".", "-")
    subprocess.run(
        ["dvc", "exp", "remove", "-q", name], check=False, capture_output=True
    )  # of an earlier call
    changes = [f"train.share={share}", f"train.seeds={orjson.dumps(list(seeds)).decode()}"]
    changes += [f"++train.args.{key}={value}" for key, value in args.items()]
    command = ["dvc", "exp", "run", "--temp", "--no-hydra", "-n", name]
    command += [word for change in changes for word in ("-S", change)]
    Console(highlight=False).print(f"share {share:g}: {' '.join(command)} evaluate")
    if subprocess.run([*command, "evaluate"], check=False).returncode:
        raise UserError(
            f"the experiment {name} failed, see above; shares that were trained stay in DVC's cache"
        )
    return name


def get_steps(name: str) -> dict[str, Any]:
    """The steps of an experiment's training, and what it had in the place of `auto`."""
    numbers = orjson.loads(dvc.api.read("models/tuned/training.json", rev=name))["numbers"]
    return {"max_steps": numbers["steps"], **numbers.get("chosen", {})}


def get_point(config: Config, share: float, name: str) -> Point:
    """The answers of an experiment's tuned models, scored by the primary metric."""
    test = read_split("test", name)
    metric = config.evaluate.primary_metric
    candidate = get_candidate(config, TUNED_ARM)
    scores = []
    for path in map(candidate.get_predictions_file, candidate.seeds):
        answers = [Prediction(**orjson.loads(line)) for line in _lines(str(path), name)]
        scores.append(
            Metrics([metric], config.evaluate.options).score_records(answers, test)[metric]
        )
    return Point(share, len(take_share(read_split("train", name), share, config.seed)), scores)


def read_split(split: str, name: str) -> list[Record]:
    """The records of an experiment's split."""
    return [Record.load(line) for line in _lines(f"data/prepared/{split}.jsonl", name)]


def _lines(path: str, name: str) -> list[bytes]:
    return dvc.api.read(path, rev=name, mode="rb").splitlines()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tools.learning_curve", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "shares", nargs="*", type=float, help="of the training rows; 0.25 0.5 1 where none is given"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="of training; the global one and the next by default"
    )
    return parser.parse_args()


def _check_shares(given: Sequence[float]) -> list[float]:
    shares = sorted(set(given) or set(SHARES))
    if len(shares) < 2 or not all(0 < share <= 1 for share in shares):  # noqa: PLR2004
        raise UserError(
            f"at least two shares above 0 and up to 1 are needed, got {' '.join(map(str, given))}"
        )
    return shares


if __name__ == "__main__":
    main()
