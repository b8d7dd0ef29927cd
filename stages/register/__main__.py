"""Register the tuned model in MLflow if it passes the gate, and say why if it does not.

The stage reads the tuned model that the verdict recommends (`models/tuned`, or a rival in
`models/rivals`), its answers, `reports/verdict.json` and the test split. It writes
`reports/gate.html`, `reports/model_card.md` and `metrics/register.json`. A closed gate is a valid
result, so the stage succeeds in either case.

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
REVIEW = Path("reports/gate.html")


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@stage_main("register")
def main(config: Config, tracker: Tracker) -> None:
    """Check the gate, register the model if the gate is open, and write the model card."""
    from stages.register.card import render_card
    from stages.register.condition import describe_conditions
    from stages.register.gate import check_gate
    from stages.register.hub_card import add_front_matter
    from stages.register.licenses import check_licenses
    from stages.register.measured import check_look, check_measured
    from stages.register.registration import CLOSED, Outcome, register
    from stages.register.review import render_review
    from stages.register.soundness import check_end_token, check_leaks

    report = read_verdict()
    candidate = get_recommended(config, report["recommended_arm"])
    values = check_measured(candidate, report)
    gate = candidate.config.register_.gate
    conditions = [
        check_look(candidate, report),
        *check_gate(gate, report, candidate.name, values),
        check_leaks(),
        check_end_token(gate, candidate.config.train.method, candidate.read_predictions()[0]),
        *check_licenses(candidate),
    ]
    if all(condition.passed for condition in conditions):
        # The comparison with the champion may be costly and cannot open a closed gate.
        outcome = register(candidate, report, conditions, tracker)
    else:
        outcome = Outcome(None, CLOSED, conditions)
    card = render_card(candidate, report, outcome.conditions)
    atomic_write(CARD, add_front_matter(card, candidate, report).encode())
    atomic_write(REVIEW, render_review(candidate, report, outcome).encode("utf-8", "replace"))
    lines = [condition.line for condition in outcome.conditions]
    log.info("%s\n  %s", outcome.sentence, "\n  ".join(lines))
    result = {
        "registered": outcome.version is not None,
        "model": config.register_.name,
        "version": outcome.version,
        "mlflow_run": tracker.run_id if tracker.enabled else None,
        "outcome": outcome.sentence,
        "conditions": describe_conditions(outcome.conditions),
    }
    write_summary("register", result)
    tracker.log_summary(result)
    tracker.log_artifact(CARD)
    tracker.log_artifact(REVIEW)


if __name__ == "__main__":
    main()
