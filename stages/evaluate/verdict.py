"""The rule that turns intervals into an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stages.core.predictions import TUNED_ARM
from stages.evaluate.statistics import Estimate

Answer = Literal["fine-tune", "prompt", "not-enough-evidence"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tuned arm against another on the same rows."""

    arm: str
    against: str
    metric: str
    difference: float
    ci_low: float
    ci_high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer and why."""

    verdict: Answer
    recommended_arm: str
    reasons: list[str]


def decide(comparisons: Sequence[Comparison], best_prompted: str, margin: float, confidence: float) -> Verdict:
    """Apply the rule to the comparisons of the primary metric.

    - `fine-tune`: against *every* prompted arm the whole interval of the difference lies above the margin. Because all
      of them must hold, no correction for several comparisons is needed (intersection-union test; Berger, 1982).
    - `prompt`: against some prompted arm the whole interval lies below the margin: the improvement, if any, is too
      small to be worth having.
    - `not-enough-evidence`: neither; more test rows would tell.

    Args:
        comparisons: of the tuned arm against each prompted arm.
        best_prompted: the prompted arm with the highest value.
        margin: the smallest improvement that is worth having.
        confidence: of the intervals.
    """
    reasons = [_sentence(comparison, confidence) for comparison in comparisons]
    if all(comparison.ci_low > margin for comparison in comparisons):
        return Verdict(
            "fine-tune",
            TUNED_ARM,
            [f"Against every prompted arm the whole interval lies above {margin:+.3f}.", *reasons],
        )
    losing = [comparison.against for comparison in comparisons if comparison.ci_high < margin]
    if losing:
        why = f"Against {', '.join(losing)} the whole interval lies below {margin:+.3f}: not worth the training."
        return Verdict("prompt", best_prompted, [why, *reasons])
    unclear = [comparison.against for comparison in comparisons if comparison.ci_low <= margin]
    why = f"Against {', '.join(unclear)} the interval contains {margin:+.3f}: more test rows would tell."
    return Verdict("not-enough-evidence", best_prompted, [why, *reasons])


def _sentence(comparison: Comparison, confidence: float) -> str:
    return (
        f"{comparison.metric} of {comparison.arm} minus {comparison.against}: {comparison.difference:+.3f} "
        f"({confidence:.0%} interval {comparison.ci_low:+.3f} to {comparison.ci_high:+.3f}, "
        f"p = {comparison.p_value:.2g})."
    )


def best(values: dict[str, Estimate]) -> str:
    """The arm with the highest value; the first of equals."""
    return max(values, key=lambda arm: values[arm].value)
