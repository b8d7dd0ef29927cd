"""A process that registers a made-up model, for tests of several at once.

It prints `compared` after the comparison with the champion, waits for a line, and prints the
outcome as JSON.
"""

import json
import sys
from pathlib import Path

import mlflow
from hydra import compose, initialize_config_dir

from stages.core.config.schema import parse
from stages.core.models.candidates import get_candidate
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.tracker import track
from stages.register import promotion, registration
from stages.register.condition import Condition

CONF = Path(__file__).resolve().parents[2] / "conf"


def check_champion(candidate, report, champion):
    """Compare with the value in the champion's tag `value`."""
    if champion is None:
        return []
    found = mlflow.MlflowClient().get_model_version("tuneproof-chat-jsonl", champion.number)
    theirs = float(found.tags[PREFIX + "value"])
    sentence = f"{report['value']} against {theirs} of version {champion.number}"
    return [Condition("champion", report["value"] > theirs, sentence)]


def log(registration):
    """Log an empty model, and wait."""
    model = mlflow.MlflowClient().create_logged_model(registration._tracker._experiment, "made-up")
    mlflow.MlflowClient().finalize_logged_model(model.model_id, "READY")
    sys.stdout.write("compared\n")
    sys.stdout.flush()
    sys.stdin.readline()
    registration._model_id = model.model_id
    registration._round_trip = Condition("round_trip", True, "same")


def main(value, overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = parse(compose("config", overrides=[*overrides, "register=one-task"]))
    registration.check_champion = check_champion
    registration.hash_served = lambda *_: f"served {value}"
    registration.render_card = lambda *_: "card"
    registration._Registration._log = log
    tags = {PREFIX + "value": str(value), PREFIX + "served_sha256": f"served {value}"}
    promotion.add_front_matter = lambda *_: "card"
    promotion.lineage_tags = lambda *_: tags
    report = {"value": value, "lineage": {"dtype": "float32"}, "forgetting": None}
    with track(config, "register") as tracker:
        found = registration.register(get_candidate(config, "tuned"), report, [], tracker)
    reasons = [found.sentence for found in found.conditions if found.name == "champion"]
    sys.stdout.write(json.dumps([found.version, found.sentence, reasons]) + "\n")


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
