"""Register the tuned model in MLflow if it passes the gate, and say why if it does not.

The stage reads the tuned model that the verdict recommends (`models/tuned`, or a rival in
`models/rivals`), its answers, `reports/verdict.json` and the test split. It writes
`reports/model_card.md` and `metrics/register.json`. A closed gate is a valid result, so the stage
succeeds in either case.

    # Under DVC, with params.yaml:
    dvc repro register
    # Without DVC, composed from conf/:
    python -m stages.register register.gate.min_primary_metric=0.6
"""

import logging
from pathlib import Path

import hydra

from stages.core.config.schema import Config
from stages.core.data.verdict import read_verdict
from stages.core.entrypoint import stage_main
from stages.core.models.candidates import get_recommended
from stages.core.storage.files import atomic_write
from stages.core.storage.summaries import write_summary
from stages.core.tracking.tracker import Tracker

log = logging.getLogger(__name__)
CARD = Path("reports/model_card.md")


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@stage_main("register")
def main(config: Config, tracker: Tracker) -> None:
    """Check the gate, register the model if the gate is open, and write the model card."""
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
    # The comparison may be costly and cannot open a gate that another condition closes.
    if all(condition.passed for condition in conditions):
        conditions += check_champion(candidate, report, champion)
    card = render_card(candidate, report, conditions)
    version = None
    outcome = "the gate is closed"
    if all(condition.passed for condition in conditions):
        version, outcome = register(candidate, report, champion, card, tracker)
    atomic_write(CARD, card.encode())
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
