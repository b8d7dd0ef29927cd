"""Check the conditions that a tuned model must meet before it is registered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.core.config.schema import Gate

OVERALL = 0  # the index of the whole general suite among the report's abilities


@dataclass(frozen=True, slots=True)
class Condition:
    """The outcome of one condition of the gate."""

    passed: bool
    sentence: str


def check_gate(gate: Gate, report: Mapping[str, Any], arm: str) -> list[Condition]:
    """Check every condition except the comparison with the champion, even after one has failed.

    Args:
        gate: The configured conditions.
        report: The content of `reports/verdict.json`.
        arm: The arm of the tuned model that would be registered.
    """
    conditions = []
    if report["looks"]["place"] is None:
        conditions.append(Condition(False, _explain_look(report)))
    if gate.verdict is not None:
        found = report["verdict"]
        conditions.append(
            Condition(
                found == gate.verdict, f"verdict {found!r}; the gate requires {gate.verdict!r}"
            )
        )
    metric = report["primary_metric"]
    value = report["arms"][arm][metric]["value"]
    wanted = f"the gate requires at least {gate.min_primary_metric}"
    conditions.append(
        Condition(value >= gate.min_primary_metric, f"{metric} {value:.3f}; {wanted}")
    )
    return [*conditions, _check_purpose(gate, report["forgetting"])]


def describe_purpose(gate: Gate, forgetting: Mapping[str, Any] | None) -> str:
    """Describe what the model is for, and how much of the general suite it still answers.

    Args:
        gate: The configured gate, which names the purpose.
        forgetting: The report's section on forgetting, or None if it was not measured.
    """
    name = {"one-task": "a one-task model", "assistant": "an assistant"}[gate.purpose]
    if forgetting is None:
        return f"{name}: forgetting was not measured"
    suite = forgetting["abilities"][OVERALL]
    tuned = suite["tuned"]["value"]
    base = suite["base"]["value"]
    return f"{name}: it scores {tuned:.3f} on the general suite, the base model {base:.3f}"


def _explain_look(report: Mapping[str, Any]) -> str:
    if report["split"] == "validation":
        return (
            "the model was judged on validation rows, which also chose the prompts and the "
            "checkpoint. To judge it once on the test rows, run `dvc exp run` with the same "
            "settings and -S evaluate.split=test"
        )
    return f"the look at the test rows was not counted: {report['looks']['sentence']}"


def _check_purpose(gate: Gate, forgetting: Mapping[str, Any] | None) -> Condition:
    """Check that an assistant has not forgotten too much. It fails if this was not measured."""
    purpose = describe_purpose(gate, forgetting)
    if gate.purpose == "one-task":
        return Condition(True, purpose)
    wanted = f"the gate allows a loss of at most {gate.max_forgetting:.3f}"
    remedy = "To register a model for this task alone, set -S register.gate.purpose=one-task"
    if forgetting is None:
        why = (
            "Set evaluate.forgetting=true to measure it. "
            "A classifier cannot be measured, because it answers nothing else"
        )
        return Condition(False, f"{purpose}; {wanted}. {why}. {remedy}")
    gap = forgetting["abilities"][OVERALL]["difference"]
    lost = -gap["value"]
    at_most = -gap["ci_low"]
    sentence = (
        f"{purpose}. The loss is {lost:.3f}, and up to {at_most:.3f} "
        f"at the end of its interval; {wanted}"
    )
    if at_most <= gate.max_forgetting:
        return Condition(True, sentence)
    return Condition(False, f"{sentence}. {remedy}")
