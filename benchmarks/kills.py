"""Kill the pipeline at random moments and see whether `make repro` ends as if nothing had happened.

    python -m benchmarks.kills --kills 50 --seed 42

Runs a smoke pipeline on a tiny random model in a temporary clone of HEAD, with a DVC cache and an
MLflow store of its own, once undisturbed as the reference. For each kill, the clone is as it was
before one stage, the moment is drawn from the seconds of that stage in the reference, and SIGKILL
hits one of three targets: `dvc` and its stage, `dvc` alone, or the stage alone. Then `make repro`
runs, and everything that a user would look at is compared with the reference.

The moments are spread over the whole reference. Stages after the killed one come from DVC's run
cache, except `register`, which runs again. Prints one line for each kill, writes them to
`benchmarks/results/kills.json`, and exits with 1 if a run was lost or differs.
"""

import json
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.kills_ground import STAGES, TARGETS, Ground, Kill
from stages.core.entrypoint import make_parser, tool_main

RESULT = Path("benchmarks/results/kills.json")


@tool_main("kills")
def main() -> None:
    """Run the reference and the kills, print a line for each, and exit with 1 if one differs."""
    parser = make_parser("benchmarks.kills", __doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--keep", type=Path, help="a new folder for the clones, which stays")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tuneproof-kills-") as folder:
        ground = Ground((asked.keep or Path(folder)).resolve())
        seconds = ground.run_reference()
        generator = random.Random(asked.seed)
        kills = draw(seconds, asked.kills, generator)
        for number, kill in enumerate(kills, 1):
            ground.kill_and_repeat(kill, generator)
            print(f"{number:3} {describe(kill)}", flush=True)  # noqa: T201
            RESULT.parent.mkdir(parents=True, exist_ok=True)
            RESULT.write_text(json.dumps([asdict(kill) for kill in kills[:number]], indent=2))
    lost = sum(kill.said.startswith("failed") for kill in kills)
    equal = sum(not kill.differs for kill in kills)
    print(f"{len(kills)} kills, {lost} lost, {equal} equal")  # noqa: T201
    sys.exit(equal < len(kills))


def draw(seconds: dict[str, float], count: int, generator: random.Random) -> list[Kill]:
    """Draw kills whose moments are spread evenly over the reference, in a random order."""
    total = sum(seconds.values())
    kills = []
    for number in range(count):
        moment = (number + generator.random()) / count * total
        stages = iter(seconds)
        stage = next(stages)
        while moment > seconds[stage] and stage != STAGES[-1]:
            moment -= seconds[stage]
            stage = next(stages)
        kills.append(Kill(stage, moment, TARGETS[number % len(TARGETS)]))
    generator.shuffle(kills)
    return kills


def describe(kill: Kill) -> str:
    """Describe a kill and its outcome in one line."""
    outcome = f"differs: {kill.differs}" if kill.differs else "equal"
    said = f" ({kill.said})" if kill.said else ""
    return (
        f"{kill.stage:9} after {kill.moment:5.1f} s, {kill.target:13} killed in {kill.hit:9} "
        f"again {kill.seconds:5.1f} s  {outcome}{said}"
    )


if __name__ == "__main__":
    main()
