"""What a tuned model must show before it is registered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.core.config.schema import Gate

OVERALL = 0  # the place of the whole general suite among the abilities of the report


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition and how it turned out."""

    passed: bool
    sentence: str


def check_gate(gate: Gate, report: Mapping[str, Any], arm: str) -> list[Condition]:
    """Every condition except the one against the champion, whether or not an earlier one failed.

    Args:
        gate: the configured conditions.
        report: `reports/verdict.json`.
        arm: of the tuned model that would be registered.
    """
    conditions = []
    if report["looks"]["place"] is None:
        conditions.append(Condition(False, _explain_look(report)))
    if gate.verdict is not None:
        found = report["verdict"]
        conditions.append(
            Condition(found == gate.verdict, f"verdict {found!r}, {gate.verdict!r} wanted")
        )
    metric = report["primary_metric"]
    value = report["arms"][arm][metric]["value"]
    wanted = f"at least {gate.min_primary_metric} wanted"
    conditions.append(
        Condition(value >= gate.min_primary_metric, f"{metric} {value:.3f}, {wanted}")
    )
    return [*conditions, _check_purpose(gate, report["forgetting"])]


def describe_purpose(gate: Gate, forgetting: Mapping[str, Any] | None) -> str:
    """What the model is for, and what it still knows beside that; `forgetting` is that of the report."""
    name = {"one-task": "a one-task model", "assistant": "an assistant"}[gate.purpose]
    if forgetting is None:
        return f"{name}: what it forgot was not measured"
    suite = forgetting["abilities"][OVERALL]
    tuned = suite["tuned"]["value"]
    base = suite["base"]["value"]
    return f"{name}: it answers {tuned:.3f} of the general suite, the base model {base:.3f}"


def _explain_look(report: Mapping[str, Any]) -> str:
    if report["split"] == "validation":
        return (
            "judged on validation rows, on which prompts and checkpoint were chosen. For one look at the test rows: "
            "`dvc exp run` with the same settings and -S evaluate.split=test"
        )
    return f"the look at the test rows was not counted: {report['looks']['sentence']}"


def _check_purpose(gate: Gate, forgetting: Mapping[str, Any] | None) -> Condition:
    """An assistant must not have forgotten more than it may; what was not measured is not passed."""
    purpose = describe_purpose(gate, forgetting)
    if gate.purpose == "one-task":
        return Condition(True, purpose)
    wanted = f"and at most {gate.max_forgetting:.3f} is allowed"
    remedy = "A model for this task alone: -S register.gate.purpose=one-task"
    if forgetting is None:
        why = "It is measured with evaluate.forgetting=true, but never of a classifier, which answers nothing else"
        return Condition(False, f"{purpose}, {wanted}. {why}. {remedy}")
    gap = forgetting["abilities"][OVERALL]["difference"]
    lost = -gap["value"]
    at_most = -gap["ci_low"]
    sentence = (
        f"{purpose}; a loss of {lost:.3f}, by the end of its interval up to {at_most:.3f}, {wanted}"
    )
    if at_most <= gate.max_forgetting:
        return Condition(True, sentence)
    return Condition(False, f"{sentence}. {remedy}")
