"""Let the tuned model into the MLflow registry if the evidence is there, and say why if it is not.

Reads the tuned model that the verdict recommends (`models/tuned`, or a rival in `models/rivals`), its answers,
`reports/verdict.json` and the test split; writes `reports/model_card.md` and `metrics/register.json`. A gate that says
no is an answer: the stage ends well either way.

    dvc repro register                                     # under DVC, with params.yaml
    python -m stages.register register.gate.min_primary_metric=0.6    # alone, composed from conf/
"""

import logging
from pathlib import Path

import hydra

from stages.core.config.schema import Config
from stages.core.data.verdict import read_verdict
from stages.core.entrypoint import stage_main
from stages.core.models.candidates import get_recommended
from stages.core.storage.files import write_bytes
from stages.core.storage.summaries import write_summary
from stages.core.tracking.tracker import Tracker

log = logging.getLogger(__name__)
CARD = Path("reports/model_card.md")


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@stage_main("register")
def main(config: Config, tracker: Tracker) -> None:
    """Check the gate, register if it opens, write the card."""
    from stages.register.card import render_card
    from stages.register.champion import check_champion
    from stages.register.gate import check_gate
    from stages.register.registration import check_weights, register
    from stages.register.registry import find_champion

    report = read_verdict()
    candidate = get_recommended(config, report["recommended_arm"])
    check_weights(candidate, report)
    champion = tracker.safely(lambda: find_champion(config))
    conditions = check_gate(config.register_.gate, report, candidate.name)
    if all(
        condition.passed for condition in conditions
    ):  # else it would not decide, and may be costly
        conditions += check_champion(candidate, report, champion)
    card = render_card(candidate, report, conditions)
    version = None
    outcome = "the gate is closed"
    if all(condition.passed for condition in conditions):
        version, outcome = register(candidate, report, champion, card, tracker)
    write_bytes(CARD, card.encode())
    reasons = [
        f"{'passed' if condition.passed else 'failed'}: {condition.sentence}"
        for condition in conditions
    ]
    log.info("%s\n  %s", outcome, "\n  ".join(reasons))
    result = {
        "registered": version is not None,
        "version": version,
        "outcome": outcome,
        "reasons": reasons,
    }
    write_summary("register", result)
    tracker.log_summary(result)
    tracker.log_artifact(CARD)


if __name__ == "__main__":
    main()
