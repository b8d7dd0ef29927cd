"""How much more data would help? Train on parts of the rows and fit the curve.

    python -m tools.curve                  # on 25, 50 and 100 % of the training rows
    python -m tools.curve 0.1 0.3 1        # on other shares

Each share is a DVC experiment of the workspace's `params.yaml` up to `evaluate`: what does not hang on the share
(prepare, baseline) comes from the cache, and so does a share that has been trained before. Writes
`data/learning_curve.json`, which the report of the next `dvc repro` shows. Commit it.
"""

import subprocess
import sys

import dvc.api
import orjson
from omegaconf import OmegaConf
from rich.console import Console

from stages.core.config import Config, parse
from stages.core.errors import UserError
from stages.core.files import write_json
from stages.core.lineage import data_sha256, git_commit, hardware
from stages.core.metrics import Metrics
from stages.core.predictions import TUNED_ARM, Prediction
from stages.core.records import SPLITS, Record
from stages.evaluate.curve import FILE, Point, fit_curve, get_curve_key
from stages.train.examples import take_share

SHARES = (0.25, 0.5, 1.0)


def main() -> None:
    """Run the experiments one after the other (they share the machine), fit, write, say."""
    try:
        shares = _shares(sys.argv[1:])
        config = parse(OmegaConf.load("params.yaml"))  # type: ignore[arg-type]
        if config.evaluate.split != "test":
            raise UserError("the curve is measured on test rows: run it with evaluate.split=test in params.yaml")
        if set(data_sha256()) != set(SPLITS):  # a curve belongs to its data
            raise UserError("data/prepared is not there: run `dvc repro prepare` first")
        points = [get_point(config, share, run(share)) for share in shares]
    except (UserError, FileNotFoundError) as error:
        sys.exit(f"curve: {error}")
    settings = config.evaluate
    curve = fit_curve(points, settings.confidence)
    facts = {"metric": settings.primary_metric, "git_commit": git_commit(), "hardware": hardware()}
    write_json(FILE, {"key": get_curve_key(config), **facts, "curve": curve})
    console = Console(highlight=False)
    console.print(f"{settings.primary_metric}: {curve['sentence']}")
    console.print(f"{FILE} is written: `dvc repro` puts it into the report; commit both.")


def run(share: float) -> str:
    """Run the experiment of a share in a folder of its own, and return its name.

    Raises:
        UserError: the experiment failed.
    """
    name = f"curve-{share:g}".replace(".", "-")
    subprocess.run(["dvc", "exp", "remove", "-q", name], check=False, capture_output=True)  # of an earlier call
    command = ["dvc", "exp", "run", "--temp", "--no-hydra", "-n", name, "-S", f"train.share={share}", "evaluate"]
    Console(highlight=False).print(f"share {share:g}: {' '.join(command)}")
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"the experiment {name} failed, see above; shares that were trained stay in DVC's cache")
    return name


def get_point(config: Config, share: float, name: str) -> Point:
    """The tuned answers of an experiment, scored by the primary metric."""
    train, test = (
        [Record.load(line) for line in _lines(f"data/prepared/{split}.jsonl", name)] for split in ("train", "test")
    )
    answers = [Prediction(**orjson.loads(line)) for line in _lines(f"predictions/{TUNED_ARM}.jsonl", name)]
    metric = config.evaluate.primary_metric
    scores = Metrics([metric], config.evaluate.options).score_records(answers, test)[metric]
    return Point(share, len(take_share(train, share, config.seed)), [scores])


def _lines(path: str, name: str) -> list[bytes]:
    return dvc.api.read(path, rev=name, mode="rb").splitlines()


def _shares(arguments: list[str]) -> list[float]:
    try:
        shares = sorted({float(argument) for argument in arguments} or set(SHARES))
    except ValueError:
        raise UserError(f"shares are numbers above 0 and up to 1, got {' '.join(arguments)}") from None
    if len(shares) < 2 or not all(0 < share <= 1 for share in shares):  # noqa: PLR2004
        raise UserError(f"at least two shares above 0 and up to 1 are needed, got {' '.join(arguments)}")
    return shares


if __name__ == "__main__":
    main()
