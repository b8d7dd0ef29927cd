"""The arms of a verdict with their measurements, and how two of them compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stages.core.config.arms import CONSTANT_ARM
from stages.core.statistics.bounds import Estimate, Spread


@dataclass(frozen=True, slots=True)
class Field:
    """Hold the arms of a verdict and their measurements by the primary metric."""

    model_free: Sequence[str]
    """The model-free arms, `constant` first."""
    prompted: Sequence[str]
    tuned: Sequence[str]
    values: Mapping[str, Spread]
    """The value of each arm."""
    spreads: Mapping[tuple[str, str], Spread]
    """The paired difference of each pair of arms, first minus second."""
    cheaper: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    """Whether a tuned arm was shown to cost less than a prompted one, training included."""
    cost: Mapping[str, float] = field(default_factory=dict)
    """The cost of a request of each arm."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Hold the thresholds of the verdict."""

    margin: float
    """The smallest difference that is worth having."""
    confidence: float
    min_useful_value: float | None = None
    """The lowest useful value of the primary metric; null sets no limit."""
    min_rows: int = 0
    """The number of rows below which nothing is decided."""
    looks: int = 1
    """The number of tuned models judged on these rows so far, including this one."""

    def get_tuned_confidence(self, count: int) -> float:
        """Return the confidence of the bounds of one of several tuned arms.

        One of them may win by chance, and so may one of several looks. The error probability is
        therefore divided by both numbers (Bonferroni).
        """
        return 1 - (1 - self.confidence) / (max(count, 1) * self.looks)


class Comparisons:
    """Compares arms with each other, each time with a bound of the right confidence."""

    def __init__(self, arms: Field, rule: Rule) -> None:
        self._arms = arms
        self._rule = rule
        self._alpha = 1 - rule.confidence

    def _wins(self, arm: str) -> bool:
        alpha = self._tuned_alpha()
        if not all(self._beats(arm, other, alpha) for other in self._arms.model_free):
            return False
        return all(
            self._beats(arm, other, alpha) or self._as_good_and_cheaper(arm, other)
            for other in self._arms.prompted
        )

    def _as_good_and_cheaper(self, arm: str, other: str) -> bool:
        spread = self._arms.spreads[arm, other]
        return spread.low(self._tuned_alpha()) > -self._rule.margin and self._arms.cheaper.get(
            (arm, other), False
        )

    def _tuned_alpha(self) -> float:
        return 1 - self._rule.get_tuned_confidence(len(self._arms.tuned))

    def _beats(self, arm: str, other: str, alpha: float) -> bool:
        return self._arms.spreads[arm, other].low(alpha) > self._rule.margin

    def _adds_nothing(self, arm: str, other: str, alpha: float) -> bool:
        return self._arms.spreads[arm, other].high(alpha) < self._rule.margin

    def _useful_prompts(self) -> list[str]:
        """List the prompted arms that beat every model-free arm."""
        alpha = self._alpha / max(len(self._arms.prompted), 1)
        return [
            p
            for p in self._arms.prompted
            if all(self._beats(p, m, alpha) for m in self._arms.model_free)
        ]

    def _fallback(self) -> str | None:
        """Choose the arm to use while tuning is undecided; None if no arm is worth using."""
        if prompts := self._useful_prompts():
            return self._cheapest(prompts)
        rivals = [arm for arm in self._arms.model_free if arm != CONSTANT_ARM]
        alpha = self._alpha / max(len(rivals), 1)
        winners = [arm for arm in rivals if self._beats(arm, CONSTANT_ARM, alpha)]
        return self._best(winners) if winners else None

    def _cheapest(self, arms: Sequence[str]) -> str:
        """Choose the cheapest arm of those that are not worse than the best one by the margin."""
        best = self._best(arms)
        alpha = self._alpha
        good = [
            arm
            for arm in arms
            if arm == best or self._arms.spreads[arm, best].low(alpha) > -self._rule.margin
        ]
        return min(
            good,
            key=lambda arm: (
                self._arms.cost.get(arm, float("inf")),
                -self._arms.values[arm].value,
            ),
        )

    def _best(self, arms: Sequence[str]) -> str:
        return max(arms, key=lambda arm: self._arms.values[arm].value)

    def _get_interval(self, arm: str) -> Estimate:
        """Return the value of an arm with its interval, which is wider for one of several looks."""
        tuned = arm in self._arms.tuned
        confidence = 1 - self._tuned_alpha() if tuned else self._rule.confidence
        return self._arms.values[arm].interval(confidence)

    def _all(self) -> list[str]:
        return [*self._arms.model_free, *self._arms.prompted, *self._arms.tuned]
