"""Check the conditions that a tuned model must meet before it is registered."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.core.config.schema import Gate

OVERALL = 0  # the index of the whole general suite among the report's abilities


@dataclass(frozen=True, slots=True)
class Condition:
    """The outcome of one condition of the gate."""

    passed: bool
    sentence: str


def check_gate(
    gate: Gate, report: Mapping[str, Any], arm: str, values: Sequence[float]
) -> list[Condition]:
    """Check every condition on the verdict and its numbers, even after one has failed.

    What was not measured does not pass: a missing number closes the gate.

    Args:
        gate: The configured conditions.
        report: The content of `reports/verdict.json`.
        arm: The arm of the tuned model that would be registered.
        values: The primary metric of the model of each training seed. The first one is registered.
    """
    conditions = []
    if gate.verdict is not None:
        conditions.append(_check_verdict(gate.verdict, report, arm))
    conditions.append(_check_value(gate, report["primary_metric"], values))
    return [*conditions, _check_purpose(gate, report["forgetting"])]


def _check_verdict(wanted: str, report: Mapping[str, Any], arm: str) -> Condition:
    found = report["verdict"]
    sentence = f"verdict {found!r}; the gate requires {wanted!r}"
    if found == "fine-tune" and report["recommended_arm"] != arm:
        return Condition(
            False, f"{sentence}. But it recommends {report['recommended_arm']}, not {arm}"
        )
    return Condition(found == wanted, sentence)


def _check_value(gate: Gate, metric: str, values: Sequence[float]) -> Condition:
    """Check the value of the model that is registered, and the mean over its training seeds."""
    value = values[0]
    mean = sum(values) / len(values)
    wanted = f"the gate requires at least {gate.min_primary_metric}"
    if not all(math.isfinite(found) for found in values):
        return Condition(False, f"{metric} has no value, so it was not measured; {wanted}")
    seeds = f" (the mean of its {len(values)} training seeds is {mean:.3f})"
    sentence = f"{metric} {value:.3f}{seeds if len(values) > 1 else ''}; {wanted}"
    return Condition(min(value, mean) >= gate.min_primary_metric, sentence)


def describe_purpose(gate: Gate, forgetting: Mapping[str, Any] | None) -> str:
    """Describe what the model is for, and how much of the general suite it still answers.

    Args:
        gate: The configured gate, which names the purpose.
        forgetting: The report's section on forgetting, or None if it was not measured.
    """
    name = {"one-task": "a one-task model", "assistant": "an assistant"}[gate.purpose]
    numbers = _read_suite(forgetting)
    if numbers is None:
        return f"{name}: forgetting was not measured"
    base, tuned, *_ = numbers
    return f"{name}: it scores {tuned:.3f} on the general suite, the base model {base:.3f}"


def _read_suite(forgetting: Mapping[str, Any] | None) -> tuple[float, float, float, float] | None:
    """Read the results on the general suite.

    Returns:
        The value of the base model, that of the tuned model, their difference, and the lower end
        of its interval; None if one of them is missing.
    """
    abilities = (forgetting or {}).get("abilities") or [{}]
    suite = abilities[OVERALL]
    gap = suite.get("difference", {})
    found = (
        suite.get("base", {}).get("value"),
        suite.get("tuned", {}).get("value"),
        gap.get("value"),
        gap.get("ci_low"),
    )
    measured = all(isinstance(value, int | float) and math.isfinite(value) for value in found)
    return found if measured else None


def _check_purpose(gate: Gate, forgetting: Mapping[str, Any] | None) -> Condition:
    """Check that an assistant has not forgotten too much. It fails if this was not measured."""
    purpose = describe_purpose(gate, forgetting)
    if gate.purpose == "one-task":
        return Condition(True, purpose)
    wanted = f"the gate allows a loss of at most {gate.max_forgetting:.3f}"
    remedy = "To register a model for this task alone, set -S register.gate.purpose=one-task"
    numbers = _read_suite(forgetting)
    if numbers is None:
        why = (
            "Set evaluate.forgetting=true to measure it. "
            "A classifier cannot be measured, because it answers nothing else"
        )
        return Condition(False, f"{purpose}; {wanted}. {why}. {remedy}")
    _, _, difference, ci_low = numbers
    sentence = (
        f"{purpose}. The loss is {-difference:.3f}, and up to {-ci_low:.3f} "
        f"at the end of its interval; {wanted}"
    )
    if -ci_low <= gate.max_forgetting:
        return Condition(True, sentence)
    return Condition(False, f"{sentence}. {remedy}")
