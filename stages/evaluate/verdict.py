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
    bound_low: float
    """One-sided: with the same confidence the difference is not below it."""
    bound_high: float
    p_value: float
    p_holm: float
    """Corrected for the number of comparisons."""
    rows_needed: int | None
    """Test rows that would tell, where the margin lies between the bounds; null elsewhere."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer and why."""

    verdict: Answer
    recommended_arm: str
    reasons: list[str]


def decide(comparisons: Sequence[Comparison], best_prompted: str, margin: float, confidence: float) -> Verdict:
    """Apply the rule to the comparisons of the primary metric.

    - `fine-tune`: against *every* prompted arm the lower bound of the difference lies above the margin. A decision in
      one direction needs a bound on one side; because all of them must hold, no correction for several comparisons is
      needed (intersection-union test; Berger, 1982).
    - `prompt`: against some prompted arm the upper bound lies below the margin: the improvement, if any, is too small
      to be worth having.
    - `not-enough-evidence`: neither; more test rows would tell.

    Args:
        comparisons: of the tuned arm against each prompted arm.
        best_prompted: the prompted arm with the highest value.
        margin: the smallest improvement that is worth having.
        confidence: of the intervals.
    """
    reasons = [_sentence(comparison, confidence) for comparison in comparisons]
    if all(comparison.bound_low > margin for comparison in comparisons):
        return Verdict(
            "fine-tune",
            TUNED_ARM,
            [f"Against every prompted arm the lower bound lies above {margin:+.3f}.", *reasons],
        )
    losing = [comparison.against for comparison in comparisons if comparison.bound_high < margin]
    if losing:
        why = f"Against {', '.join(losing)} the upper bound lies below {margin:+.3f}: not worth the training."
        return Verdict("prompt", best_prompted, [why, *reasons])
    unclear = [comparison for comparison in comparisons if comparison.bound_low <= margin]
    needed = max((comparison.rows_needed or 0 for comparison in unclear), default=0)
    tell = f"some {needed:,} test rows would tell, if the difference is what it seems" if needed else "no number tells"
    why = f"Against {', '.join(c.against for c in unclear)} the bounds have {margin:+.3f} between them: {tell}."
    return Verdict("not-enough-evidence", best_prompted, [why, *reasons])


def _sentence(comparison: Comparison, confidence: float) -> str:
    return (
        f"{comparison.metric} of {comparison.arm} minus {comparison.against}: {comparison.difference:+.3f} "
        f"({confidence:.0%} interval {comparison.ci_low:+.3f} to {comparison.ci_high:+.3f}, "
        f"one-sided bounds {comparison.bound_low:+.3f} and {comparison.bound_high:+.3f}, "
        f"p = {comparison.p_value:.2g}, Holm {comparison.p_holm:.2g})."
    )


def best(values: dict[str, Estimate]) -> str:
    """The arm with the highest value; the first of equals."""
    return max(values, key=lambda arm: values[arm].value)
