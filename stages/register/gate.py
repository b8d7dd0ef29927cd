"""Check the conditions that a tuned model must meet before it is registered."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stages.core.config.register import Gate
from stages.register.condition import Condition

OVERALL = 0  # the index of the whole general suite among the report's abilities


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
    conditions.append(_check_value(gate, report, arm, values))
    return [*conditions, _check_purpose(gate, report["forgetting"])]


def _check_verdict(wanted: str, report: Mapping[str, Any], arm: str) -> Condition:
    """Check the verdict, with the difference to the best prompted arm that it rests on."""
    found = report["verdict"]
    sentence = f"verdict {found!r}; the gate requires {wanted!r}"
    numbers = _find_difference(report, arm)
    value, bound, limit = numbers or (None, None, None)
    if numbers:
        sentence += (
            f". The difference to {report['best_prompted_arm']}, the best prompted arm, is "
            f"{value:+.3f}, with {report['bound_confidence']:.4g} confidence at least "
            f"{bound:+.3f}, and the margin is {limit:.3f}"
        )
    passed = found == wanted
    if found == "fine-tune" and report["recommended_arm"] != arm:
        passed = False
        sentence += f". But it recommends {report['recommended_arm']}, not {arm}"
    return Condition("verdict", passed, sentence, value, bound, limit)


def _find_difference(report: Mapping[str, Any], arm: str) -> tuple[float, float, float] | None:
    """Find the difference to the best prompted arm, its lower bound, and the margin."""
    wanted = (arm, report.get("best_prompted_arm"), report["primary_metric"])
    for found in report.get("comparisons", ()):
        if (found["arm"], found["against"], found["metric"]) == wanted:
            numbers = (found["difference"], found["bound_low"], report["margin"])
            return None if None in numbers else numbers
    return None


def _check_value(
    gate: Gate, report: Mapping[str, Any], arm: str, values: Sequence[float]
) -> Condition:
    """Check the value of the model that is registered, and the mean over its training seeds."""
    name = "minimum"
    metric = report["primary_metric"]
    limit = gate.min_primary_metric
    value = values[0]
    mean = sum(values) / len(values)
    wanted = f"the gate requires at least {limit}"
    if not all(math.isfinite(found) for found in values):
        why = f"{metric} has no value, so it was not measured; {wanted}"
        return Condition(name, False, why, limit=limit)
    seeds = f" (the mean of its {len(values)} training seeds is {mean:.3f})"
    sentence = f"{metric} {value:.3f}{seeds if len(values) > 1 else ''}; {wanted}"
    bound = report.get("arms", {}).get(arm, {}).get(metric, {}).get("ci_low")
    return Condition(name, min(value, mean) >= limit, sentence, value, bound, limit)


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
    name = "forgetting"
    numbers = _read_suite(forgetting)
    lost = (-numbers[2], -numbers[3]) if numbers else (None, None)
    if gate.purpose == "one-task":
        return Condition(name, True, purpose, *lost)
    limit = gate.max_forgetting
    wanted = f"the gate allows a loss of at most {limit:.3f}"
    remedy = "To register a model for this task alone, set -S register.gate.purpose=one-task"
    value, bound = lost
    if value is None or bound is None:
        why = (
            "Set evaluate.forgetting=true to measure it. "
            "A classifier cannot be measured, because it answers nothing else"
        )
        return Condition(name, False, f"{purpose}; {wanted}. {why}. {remedy}", limit=limit)
    sentence = (
        f"{purpose}. The loss is {value:.3f}, and up to {bound:.3f} "
        f"at the end of its interval; {wanted}"
    )
    if bound <= limit:
        return Condition(name, True, sentence, value, bound, limit)
    return Condition(name, False, f"{sentence}. {remedy}", value, bound, limit)
